"""`fnbuild doctor cvat`: what CVAT would see of a dashboard and its functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from fnbuild.cli.lazy import Command
from fnbuild.cli.names import function_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

_HERE = ("127.0.0.1", "localhost", "::1")


@click.command(cls=Command)
@click.option(
    "--url",
    default="http://127.0.0.1:8070",
    show_default=True,
    metavar="URL",
    help="The dashboard, as CVAT reaches it.",
)
@click.option(
    "--project", default="cvat", show_default=True, metavar="NAME", help="What CVAT asks for."
)
@click.option(
    "--function",
    default="",
    metavar="NAME",
    shell_complete=function_name,
    help="Examine this function alone.",
)
@click.option(
    "--direct-host",
    default="",
    metavar="HOST",
    help="Where ports of functions are.  [default: the dashboard's machine]",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The picture to send.  [default: one that is made]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long CVAT waits for an answer.",
)
@output_option()
@pass_session
@click.pass_context
def cvat(ctx: click.Context, session: Session, /, output: str, **given: Any) -> None:
    """Do what CVAT does with a dashboard, and say what would be missing, unreachable or misread.

    Lists the functions, gets each, and calls each through the dashboard and directly, with a
    picture, as its kind asks. The exit status is 1 when there is a failure.
    """
    from fnbuild.check import doctor_cvat, request
    from fnbuild.check.cvat_calls import Calls
    from fnbuild.cli.doctor import show
    from fnbuild.cli.progress import Progress

    url, image = str(given["url"]).rstrip("/"), given["image"]
    host = urlsplit(url).hostname or ""
    place = given["direct_host"] or ("localhost" if host in _HERE else host)
    calls = Calls(url, place, session.namespace, given["project"], given["timeout"])
    picture = request.read_image(image) if image else doctor_cvat.small_picture()
    asked = doctor_cvat.Asked(calls, picture, given["function"])
    found = []
    with Progress(whole=session.verbose) as progress:
        for finding in doctor_cvat.examine(asked):
            progress(f"  {finding.area}: {finding.message}")
            found.append(finding)
    show(found, output, grouped=True)
    if any(finding.state == "failure" for finding in found):
        ctx.exit(1)
