"""`fnbuild export`: functions and projects as nuctl exports them (pkg/nuctl/command/export.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fnbuild.cli.lazy import Command, Entry, LazyGroup
from fnbuild.cli.names import function_name, project_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Deployment
    from fnbuild.spec.types import Raw

_ENTRIES = {
    "functions": Entry("fnbuild.cli.export:functions", "Functions.", ("function", "fu", "fn")),
    "projects": Entry(
        "fnbuild.cli.export:projects", "Projects with functions.", ("project", "proj", "prj")
    ),
}

_scrub = click.option("--no-scrub", is_flag=True, help="Keep the namespace and trigger passwords.")
_cleanup = click.option(
    "--cleanup-spec", is_flag=True, help="Leave out registries, and the image of inline code."
)


@click.group(cls=LazyGroup, entries=_ENTRIES)
def export() -> None:
    """Print functions or projects, ready for `fnbuild import`."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=function_name)
@output_option(default="yaml", formats=("yaml", "json"))
@_scrub
@_cleanup
@pass_session
def functions(
    session: Session, names: tuple[str, ...], output: str, no_scrub: bool, cleanup_spec: bool
) -> None:
    """Print one function, or several as a map by name."""
    from fnbuild.cli.output import show_value
    from fnbuild.errors import NotFoundError

    platform = session.connect()
    found = (
        [platform.deployment(session.namespace, name) for name in names]
        if names
        else platform.deployments(session.namespace)
    )
    if not found:
        raise NotFoundError(f"No functions found (namespace {session.namespace})")
    exported = {
        one.name: _exported(one, scrub=not no_scrub, cleanup_spec=cleanup_spec) for one in found
    }
    show_value(exported[found[0].name] if len(found) == 1 else exported, output)


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=project_name)
@output_option(default="yaml", formats=("yaml", "json"))
@_scrub
@_cleanup
@pass_session
def projects(
    session: Session, name: str | None, output: str, no_scrub: bool, cleanup_spec: bool
) -> None:
    """Print one project with its functions, or all as a map by name."""
    from fnbuild.cli.listing import project_object
    from fnbuild.cli.output import show_value
    from fnbuild.errors import NotFoundError

    platform = session.connect()
    found = [one for one in platform.projects(session.namespace) if name in (None, one.name)]
    if not found:
        raise NotFoundError(f"No projects found: {name or session.namespace}")
    exported = {
        one.name: {
            "project": project_object(one),
            "functions": {
                function.name: _exported(function, scrub=not no_scrub, cleanup_spec=cleanup_spec)
                for function in platform.deployments(session.namespace, one.name)
            },
            "functionEvents": {},
            "apiGateways": {},
        }
        for one in found
    }
    show_value(exported[name] if name else exported, output)


def _exported(one: Deployment, *, scrub: bool, cleanup_spec: bool) -> Raw:
    from fnbuild import deploy as pipeline

    image = str(one.details.get("pinned", ""))
    return pipeline.export(
        one.function, state=one.state, image=image, scrub=scrub, cleanup_spec=cleanup_spec
    )
