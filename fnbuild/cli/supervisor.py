"""`fnbuild up` and `fnbuild down`: the supervisor of the process platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note, warn
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms.process import ProcessPlatform


@click.command(cls=Command)
@output_option()
@pass_session
def up(session: Session, output: str) -> None:
    """Start the functions of the process platform that `fnbuild down` or a reboot stopped.

    They run under a supervisor, a background process. Fails if a function does not start.
    """
    from fnbuild.cli.listing import print_functions
    from fnbuild.errors import PlatformError

    platform = _process_platform(session)
    started = platform.up()
    functions = platform.deployments(session.namespace)
    if functions:
        print_functions(functions, output)
    never_ran = [
        function.name
        for function in functions
        if not function.revision and function.state != "imported"
    ]
    if never_ran:
        warn(f"not started, for no deploy has ever brought them up: {', '.join(never_ran)}")
    if started.failed:
        count = f"{len(started.failed)} of {started.functions} functions"
        raise PlatformError(
            f"the supervisor runs, but {count} did not come up: {', '.join(started.failed)}"
        )
    note("the supervisor runs" + ("" if functions else "; no functions are deployed"))


@click.command(cls=Command)
@pass_session
def down(session: Session) -> None:
    """Stop all functions of the process platform. `fnbuild up` starts them again."""
    _process_platform(session).down()
    note("all functions and the supervisor are stopped")


def _process_platform(session: Session) -> ProcessPlatform:
    from fnbuild.errors import UsageError
    from fnbuild.platforms.process import ProcessPlatform

    platform = session.connect()
    if platform.name != ProcessPlatform.name:
        raise UsageError(f"platform {platform.name} has no supervisor of its own")
    return cast("ProcessPlatform", platform)
