"""`fnbuild get`: functions, projects (pkg/nuctl/command/get.go) and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note
from fnbuild.cli.options import complete_function_name, complete_project_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, WholeNumber, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Platform

_GET_COMMANDS = command_entries(
    {
        "functions": ("get:functions", "List functions.", "function", "fu", "fn"),
        "projects": ("get:projects", "List projects.", "project", "proj", "prj"),
        "audit": ("get:audit", "List recorded changes."),
    }
)


@click.group(cls=LazyGroup, entries=_GET_COMMANDS)
def get() -> None:
    """Show functions, projects or the audit log."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_function_name)
@click.option("-l", "--labels", metavar="K=V,…", help="Only functions with these labels.")
@click.option("--project-name", metavar="NAME", help="Only functions of this project.")
@output_option()
@click.option("--with-secrets", is_flag=True, help="Show secret values with json or yaml.")
@pass_session
def functions(  # noqa: PLR0913 - one parameter for each option
    session: Session,
    *,
    names: tuple[str, ...],
    labels: str | None,
    project_name: str | None,
    output: str,
    with_secrets: bool,
) -> None:
    """List the functions of the namespace, or the functions NAME….

    An unknown name is an error; an empty list is not.
    """
    from dataclasses import replace

    from fnbuild.cli.listing import print_functions
    from fnbuild.cli.overrides import key_values
    from fnbuild.errors import NotFoundError

    platform = session.connect()
    deployments = platform.deployments(session.namespace, project_name)
    if labels:
        wanted = key_values("--labels", labels).items()
        deployments = [
            deployment
            for deployment in deployments
            if wanted <= deployment.function.metadata.labels.items()
        ]
    if names:
        missing = [
            name for name in names if name not in {deployment.name for deployment in deployments}
        ]
        if missing:
            raise NotFoundError(
                f"No functions found: {', '.join(missing)} (namespace {session.namespace})",
                hint=_not_found_hint(platform, session.namespace, missing[0]),
            )
        deployments = [deployment for deployment in deployments if deployment.name in names]
    if not deployments:
        click.echo("No functions found" if output in ("table", "wide") else "[]")
        return
    if with_secrets and output in ("json", "yaml"):
        deployments = [
            replace(deployment, function=platform.function_with_secrets(deployment))
            for deployment in deployments
        ]
    restarts = platform.restarts(session.namespace) if output != "table" else {}
    mask = session.mask_sensitive_fields
    print_functions(deployments, output, mask=mask, with_secrets=with_secrets, restarts=restarts)
    for text in platform.problems():
        note(text)


def _not_found_hint(platform: Platform, namespace: str, name: str) -> str | None:
    from fnbuild.errors import NotFoundError

    try:
        platform.deployment(namespace, name)
    except NotFoundError as error:
        return error.hint
    return f"{name} is there, but the other flags leave it out"


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_project_name)
@output_option()
@pass_session
def projects(session: Session, name: str | None, output: str) -> None:
    """List the projects of the namespace, or show one."""
    from fnbuild.cli.listing import print_projects
    from fnbuild.errors import NotFoundError

    projects = session.connect().projects(session.namespace)
    if name:
        projects = [project for project in projects if project.name == name]
        if not projects:
            raise NotFoundError(f"No projects found: {name} (namespace {session.namespace})")
    if not projects:
        click.echo("No projects found" if output in ("table", "wide") else "[]")
        return
    print_projects(projects, output)


@click.command(cls=Command)
@click.option(
    "--limit", type=WholeNumber(min=1), default=100, show_default=True, metavar="N", help="Maximum."
)
@output_option()
@pass_session
def audit(_: Session, limit: int, output: str) -> None:
    """List recorded changes of all platforms, newest first.

    Changes by this command line and by dashboards with the same data directory are recorded.
    """
    from dataclasses import asdict

    from fnbuild.cli.output import format_table, print_value
    from fnbuild.store import Store

    with Store.open() as store:
        rows = [asdict(row) for row in store.audit(limit)]
    if output in ("json", "yaml"):
        print_value(rows, output)
    elif rows:
        click.echo(format_table(list(rows[0]), [list(row.values()) for row in rows]))
    else:
        click.echo("No changes found")
