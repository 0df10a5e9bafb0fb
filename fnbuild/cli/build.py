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
    """Build a function's image (needs a container engine).

    The process platform runs functions from their folder and needs no image.
    """
    from fnbuild.platforms import lookup

    lookup("local" if session.platform in ("process", "auto") else session.platform)
