"""`fnbuild create registry-secret`: the login with which a cluster's nodes pull images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fnbuild.cli.console import note, warn
from fnbuild.cli.flags import force_conflicts_flag
from fnbuild.cli.lazy import Command
from fnbuild.cli.session import Session, pass_session

_DEFAULT = "registry-credentials"


@click.command(cls=Command)
@click.argument("name", default=_DEFAULT)
@click.option("--registry", "--server", metavar="URL", required=True, help="The registry.")
@click.option("--username", metavar="NAME", required=True, help="Who logs in there.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read it from a file.",
)
@click.option("--password", metavar="TEXT", help="The password itself, which others here may see.")
@click.option("--email", metavar="ADDRESS", default="", help="For registries that want one.")
@force_conflicts_flag
@pass_session
def registry_secret(session: Session, /, name: str, **flags: Any) -> None:
    """Keep a registry's login in a cluster, for its nodes to pull the images of functions.

    A secret called registry-credentials, which is what it is called without NAME, is used by every
    function of the namespace. The password is asked for when nothing says where it is.
    """
    from fnbuild.errors import UsageError
    from fnbuild.platforms.kube.credentials import Login, store

    platform = session.connect()
    if platform.name != "kube":
        raise UsageError(
            f"the {platform.name} platform has no secrets for registries",
            hint="`--platform kube` keeps one in a cluster; a container engine has its own:"
            " `docker login`",
        )
    login = Login(flags["registry"], flags["username"], "", flags["email"])
    login = Login(login.registry, login.username, _password(flags, login.server), login.email)
    force = flags["force_conflicts"]
    new = store(session.namespace, name, login, force_conflicts=force)
    used = "functions use it by themselves" if name == _DEFAULT else "spec.imagePullSecrets uses it"
    note(
        f"{'created' if new else 'updated'} secret {name} in namespace {session.namespace}:"
        f" {login.username} at {login.server}; {used}"
    )


def _password(flags: dict[str, Any], server: str) -> str:
    """From the one place that was named, else from the person; never empty."""
    from fnbuild.errors import UsageError

    places = ("password_stdin", "password_file", "password")
    if sum(bool(flags[place]) for place in places) > 1:
        raise UsageError("the password can come from one place: stdin, a file or --password")
    if flags["password_stdin"]:
        found = sys.stdin.read()
    elif flags["password_file"]:
        found = _read(flags["password_file"])
    elif flags["password"]:
        warn("a password in a command line is seen by whoever lists processes, and kept by shells")
        found = flags["password"]
    elif sys.stdin.isatty():
        found = click.prompt(f"Password of {flags['username']} at {server}", hide_input=True)
    else:
        raise UsageError(
            "there is no password", hint="`--password-stdin` reads it from stdin, as from a file"
        )
    found = found.rstrip("\r\n")
    if not found:
        raise UsageError("the password is empty")
    return str(found)


def _read(file: Path) -> str:
    from fnbuild.errors import InputError

    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"cannot read the password from {file}: {why}") from None
