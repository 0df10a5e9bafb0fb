"""`fnbuild create`: projects and registry secrets (pkg/nuctl/command/create.go).

Secrets and volumes for models are in `create_storage`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note, warn
from fnbuild.cli.options import force_conflicts_option
from fnbuild.cli.session import Session, pass_session

_DEFAULT_NAME = "registry-credentials"


@click.command(cls=Command)
@click.argument("name", default=_DEFAULT_NAME)
@click.option("--registry", "--server", metavar="URL", required=True, help="The registry.")
@click.option("--username", metavar="NAME", required=True, help="User name.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read the password from a file.",
)
@click.option("--password", metavar="TEXT", help="The password. Other users may see it.")
@click.option("--email", metavar="ADDRESS", default="", help="For registries that require it.")
@force_conflicts_option
@pass_session
def registry_secret(session: Session, /, name: str, **flags: Any) -> None:
    """Store the credentials of a registry in a cluster, so that its nodes can pull images.

    NAME is the name of the Secret. All functions of the namespace use the default,
    registry-credentials. Without a password option, prompt for the password.
    """
    from fnbuild.errors import UsageError
    from fnbuild.platforms.kubeclient.connection import connect
    from fnbuild.platforms.kubernetes import KubernetesPlatform
    from fnbuild.platforms.kubernetes.registry_secret import RegistryLogin, store_registry_secret

    platform = session.connect()
    if platform.name != KubernetesPlatform.name:
        raise UsageError(
            f"the {platform.name} platform has no secrets for registries",
            hint="`--platform kube` keeps one in a cluster; a container engine has its own:"
            " `docker login`",
        )
    login = RegistryLogin(flags["registry"], flags["username"], "", flags["email"])
    login = replace(login, password=_read_password(flags, login.server))
    force = flags["force_conflicts"]
    new = store_registry_secret(
        connect(session.connect_options), session.namespace, name, login, force_conflicts=force
    )
    used = (
        "functions use it by themselves"
        if name == _DEFAULT_NAME
        else "spec.imagePullSecrets uses it"
    )
    note(
        f"{'created' if new else 'updated'} secret {name} in namespace {session.namespace}:"
        f" {login.username} at {login.server}; {used}"
    )


def _read_password(flags: dict[str, Any], server: str) -> str:
    """Return the password from the given source, or prompt for it."""
    from fnbuild.errors import UsageError

    sources = ("password_stdin", "password_file", "password")
    if sum(bool(flags[source]) for source in sources) > 1:
        raise UsageError("the password can come from one place: stdin, a file or --password")
    if flags["password_stdin"]:
        password = sys.stdin.read()
    elif flags["password_file"]:
        password = _read_password_file(flags["password_file"])
    elif flags["password"]:
        warn("a password in a command line is visible in the list of processes, and kept by shells")
        password = flags["password"]
    elif sys.stdin.isatty():
        password = click.prompt(f"Password of {flags['username']} at {server}", hide_input=True)
    else:
        raise UsageError(
            "there is no password", hint="`--password-stdin` reads it from stdin, as from a file"
        )
    password = password.rstrip("\r\n")
    if not password:
        raise UsageError("the password is empty")
    return str(password)


def _read_password_file(file: Path) -> str:
    from fnbuild.errors import InputError

    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"cannot read the password from {file}: {reason}") from None


_CREATE_COMMANDS = command_entries(
    {
        "project": ("create:project", "Create a project.", "projects", "proj", "prj"),
        "registry-secret": (
            "create:registry_secret",
            "Store a registry's credentials in a cluster.",
        ),
        "storage-secret": (
            "create_storage:storage_secret",
            "Store credentials of a bucket in a cluster.",
        ),
        "volume": ("create_storage:volume", "Create a claim for models in a cluster."),
    }
)


@click.group(cls=LazyGroup, entries=_CREATE_COMMANDS)
def create() -> None:
    """Create a project, secrets and volumes."""


@click.command(cls=Command)
@click.argument("name")
@click.option("--description", metavar="TEXT", default="", help="Description of the project.")
@click.option("--owner", metavar="NAME", default="", help="Owner of the project.")
@pass_session
def project(session: Session, name: str, description: str, owner: str) -> None:
    """Create a project. An existing project stays unchanged, without an error."""
    from fnbuild.platforms import Project

    created = session.connect().create_project(Project(name, session.namespace, description, owner))
    note(f"created project {name}" if created else f"project {name} exists already")
