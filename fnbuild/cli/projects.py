"""`fnbuild create` (pkg/nuctl/command/create.go)."""

from __future__ import annotations

import click

from fnbuild.cli.console import note
from fnbuild.cli.lazy import Command, Entry, LazyGroup
from fnbuild.cli.session import Session, pass_session

_ENTRIES = {
    "project": Entry(
        "fnbuild.cli.projects:project", "Create a project.", ("projects", "proj", "prj")
    ),
    "registry-secret": Entry(
        "fnbuild.cli.registry_secret:registry_secret", "Keep a registry's login in a cluster."
    ),
}


@click.group(cls=LazyGroup, entries=_ENTRIES)
def create() -> None:
    """Create a project, or a secret for a registry."""


@click.command(cls=Command)
@click.argument("name")
@click.option("--description", metavar="TEXT", default="", help="What the project is for.")
@click.option("--owner", metavar="NAME", default="", help="Who owns it.")
@pass_session
def project(session: Session, name: str, description: str, owner: str) -> None:
    """Create a project. One that exists already is left as it is, without an error."""
    from fnbuild.platforms import Project

    made = session.connect().create_project(Project(name, session.namespace, description, owner))
    note(f"created project {name}" if made else f"project {name} exists already")
