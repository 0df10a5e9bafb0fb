"""`fnbuild history` and `fnbuild rollback`: the revisions of a function."""

from __future__ import annotations

import click

from fnbuild.cli.deploy import print_deployed, say_deployed
from fnbuild.cli.flags import force_conflicts_flag
from fnbuild.cli.lazy import Command
from fnbuild.cli.names import function_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, Whole, pass_session


@click.command(cls=Command)
@click.argument("name", shell_complete=function_name)
@output_option()
@pass_session
def history(session: Session, name: str, output: str) -> None:
    """List the recorded revisions of a function, newest first."""
    from fnbuild.cli.listing import reason
    from fnbuild.cli.output import show_value, table
    from fnbuild.spec.types import to_dict

    platform = session.connect()
    platform.deployment(session.namespace, name)
    found = platform.revisions(session.namespace, name)
    if output in ("json", "yaml"):
        values = [
            {
                "revision": one.number,
                "created": one.created,
                "state": one.state,
                "digest": one.digest,
                "message": one.message,
                "function": to_dict(one.function),
            }
            for one in found
        ]
        show_value(values, output)
        return
    wide = output == "wide"
    rows = [
        [
            one.number,
            one.state,
            one.created,
            one.digest if wide else one.digest[:12],
            one.message if wide else reason(one.message),
        ]
        for one in found
    ]
    click.echo(table(["revision", "state", "created", "digest", "message"], rows))


@click.command(cls=Command)
@click.argument("name", shell_complete=function_name)
@click.argument("revision", type=Whole(min=1), required=False)
@force_conflicts_flag
@output_option("name", "url")
@pass_session
def rollback(
    session: Session, name: str, revision: int | None, output: str, *, force_conflicts: bool
) -> None:
    """Run a recorded revision again.

    When none is given, the newest that served before the code that runs now and differs from it.
    """
    from fnbuild.cli.progress import Progress

    platform = session.connect()
    with Progress() as progress:
        made = platform.rollback(
            session.namespace, name, revision, progress, force_conflicts=force_conflicts
        )
    say_deployed(made, progress.seconds)
    print_deployed(made, output)
