"""`fnbuild delete`: functions and projects (pkg/nuctl/command/delete.go)."""

from __future__ import annotations

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note
from fnbuild.cli.options import complete_function_name, complete_project_name
from fnbuild.cli.session import Session, pass_session

_DELETE_COMMANDS = command_entries(
    {
        "function": ("delete:function", "Delete functions.", "functions", "fu", "fn"),
        "project": ("delete:project", "Delete a project.", "projects", "proj", "prj"),
    }
)


@click.group(cls=LazyGroup, entries=_DELETE_COMMANDS)
def delete() -> None:
    """Delete functions or projects."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, shell_complete=complete_function_name)
@click.option("-f", "--force", is_flag=True, expose_value=False, help="Has no effect.")
@click.option("--with-api-gateways", is_flag=True, expose_value=False, help="Has no effect.")
@click.option("--image", is_flag=True, help="Also remove their images (Docker).")
@pass_session
def function(session: Session, names: tuple[str, ...], image: bool) -> None:
    """Stop functions and remove them with their revisions and logs.

    A missing function is not an error, as in nuctl.
    """
    from fnbuild.platforms import FunctionKey, imported_code

    platform = session.connect()
    for name in names:
        deleted = platform.delete(session.namespace, name, image=image)
        imported_code.remove(platform.name, FunctionKey(session.namespace, name))
        note(
            f"deleted {name}"
            if deleted
            else f"function {name} does not exist (namespace {session.namespace})"
        )


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_project_name)
@click.option("-f", "--force", is_flag=True, help="The same as --strategy cascading.")
@click.option(
    "--strategy",
    type=click.Choice(["restricted", "cascading", "check"]),
    default="restricted",
    show_default=True,
    help="restricted: only if empty; cascading: with its functions; check: do not delete.",
)
@click.option(
    "--wait", is_flag=True, expose_value=False, help="Has no effect: delete always waits."
)
@click.option("--wait-timeout", metavar="DURATION", expose_value=False, help="Has no effect.")
@pass_session
def project(session: Session, name: str, force: bool, strategy: str) -> None:
    """Delete a project, and its functions with `--strategy cascading`."""
    from fnbuild.errors import PreconditionError
    from fnbuild.platforms import FunctionKey, imported_code

    platform = session.connect()
    if strategy == "check" and not force:
        inside = platform.deployments(session.namespace, name)
        if inside:
            raise PreconditionError(
                f"Project contains functions: {', '.join(member.name for member in inside)}",
                hint="`--strategy cascading` deletes them too",
            )
        note(f"{name} can be deleted")
        return
    cascade = force or strategy == "cascading"
    members = platform.deployments(session.namespace, name) if cascade else []
    deleted = platform.delete_project(session.namespace, name, cascade=cascade)
    for member in members:
        imported_code.remove(platform.name, FunctionKey(session.namespace, member.name))
    note(f"deleted project {name}" if deleted else f"project {name} does not exist")
