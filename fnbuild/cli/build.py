"""`fnbuild build`: nuctl's build, for platforms that run images."""

from __future__ import annotations

from typing import Any

import click

from fnbuild.cli.flags import build_flags, source_flags
from fnbuild.cli.lazy import Command
from fnbuild.cli.session import Session, pass_session


@click.command(cls=Command)
@click.argument("name", required=False)
@source_flags
@build_flags
@click.option("--output-image-file", metavar="FILE", help="Save the image as an archive.")
@pass_session
def build(session: Session, /, **_flags: Any) -> None:
    """Build a function's image. Not in this version: it uses no container engine yet.

    The process platform needs no image: it runs functions from their folder.
    """
    from fnbuild.errors import UnavailableError
    from fnbuild.platforms import lookup

    if session.platform not in ("process", "auto"):
        lookup(session.platform)
    raise UnavailableError(
        "building images needs a container engine, which this version of fnbuild does not use yet",
        hint="`fnbuild deploy --path FOLDER` runs a function from its folder, without an image",
    )
