"""`fnbuild diff`: what a deploy would change, as a unified diff."""

from __future__ import annotations

from typing import Any

import click

from fnbuild.cli.asked import request_of
from fnbuild.cli.console import note, warn
from fnbuild.cli.flags import build_flags, configuration_flags, source_flags
from fnbuild.cli.lazy import Command
from fnbuild.cli.names import function_name
from fnbuild.cli.session import Session, pass_session

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=function_name)
@source_flags
@click.option("--project-name", metavar="NAME", help="Project of the function.")
@click.option(
    "--exit-code",
    is_flag=True,
    help="Leave with status 1 when there are differences, and 2 when they cannot be told.",
)
@build_flags
@configuration_flags
@pass_session
@click.pass_context
def diff(ctx: click.Context, session: Session, /, **flags: Any) -> None:
    """Show how what runs differs from what a deploy with the same flags would run."""
    from fnbuild import deploy as pipeline
    from fnbuild.cli.failure import tell
    from fnbuild.errors import FnbuildError

    try:
        with request_of(session, flags) as request:
            difference = pipeline.diff(request)
    except FnbuildError as error:
        if not flags["exit_code"]:
            raise
        # As git has it: status 1 is for differences alone.
        tell(error)
        ctx.exit(2)
    plan, text = difference.plan, difference.text
    for warning in plan.warnings:
        warn(warning)
    for line in text.split("\n")[:-1]:
        click.echo(click.style(line, fg=_COLOURS.get(line[:1])))
    if not text:
        note(f"no differences: {plan.function.metadata.name} runs what is here")
    elif flags["exit_code"]:
        ctx.exit(1)
