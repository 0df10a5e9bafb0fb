"""`fnbuild history` and `fnbuild rollback`: the revisions of a function."""

from __future__ import annotations

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.deploy_output import print_deployment, report_deployment
from fnbuild.cli.options import complete_function_name, force_conflicts_option
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, WholeNumber, pass_session


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@output_option()
@pass_session
def history(session: Session, name: str, output: str) -> None:
    """List the recorded revisions of a function, newest first."""
    from fnbuild.cli.listing import summary_line
    from fnbuild.cli.output import format_table, print_value
    from fnbuild.function.types import to_dict

    platform = session.connect()
    platform.deployment(session.namespace, name)
    revisions = platform.revisions(session.namespace, name)
    if output in ("json", "yaml"):
        values = [
            {
                "revision": revision.number,
                "created": revision.created,
                "state": revision.state,
                "digest": revision.digest,
                "message": revision.message,
                "function": to_dict(revision.function),
            }
            for revision in revisions
        ]
        print_value(values, output)
        return
    wide = output == "wide"
    rows = [
        [
            revision.number,
            revision.state,
            revision.created,
            revision.digest if wide else revision.digest[:12],
            revision.message if wide else summary_line(revision.message),
        ]
        for revision in revisions
    ]
    click.echo(format_table(["revision", "state", "created", "digest", "message"], rows))


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@click.argument("revision", type=WholeNumber(min=1), required=False)
@force_conflicts_option
@output_option("name", "url")
@pass_session
def rollback(
    session: Session, name: str, revision: int | None, output: str, *, force_conflicts: bool
) -> None:
    """Deploy an earlier revision of a function.

    The default is the newest earlier revision that differs from the current code and was ready.
    """
    from fnbuild.cli.progress import ProgressDisplay

    platform = session.connect()
    with ProgressDisplay() as progress:
        deployment = platform.rollback(
            session.namespace, name, revision, progress, force_conflicts=force_conflicts
        )
    report_deployment(deployment, progress.seconds)
    print_deployment(deployment, output)
