"""`fnbuild token`: bearer tokens for calls of a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, WholeNumber, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Deployment

_DAY = 24 * 3600.0
_COMMANDS = command_entries(
    {
        "create": ("token:create", "Create a token and print it."),
        "list": ("token:list_", "List the tokens of a function."),
        "revoke": ("token:revoke", "Revoke a token."),
    }
)


@click.group(cls=LazyGroup, entries=_COMMANDS)
def token() -> None:
    """Manage the bearer tokens by which clients call a function.

    A function with a token answers only requests with credentials. `fnbuild invoke` and the
    dashboard have their own.
    """


@click.command(cls=Command)
@click.argument("function", shell_complete=complete_function_name)
@click.option("--name", default="", metavar="NAME", help="Name of the token. [default: token-N]")
@click.option("--days", type=WholeNumber(min=1), metavar="N", help="Days after which it expires.")
@pass_session
def create(session: Session, function: str, name: str, days: int | None) -> None:
    """Create a token for FUNCTION and print it.

    Only its digest is stored, so it cannot be printed again. The function gets a new revision.
    """
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.deploy import tokens
    from fnbuild.function.access_settings import authentication_mode

    platform = session.connect()
    current = platform.deployment(session.namespace, function)
    was_open = authentication_mode(current.function) == "none"
    seconds = None if days is None else days * _DAY
    with ProgressDisplay(whole=session.verbose) as progress:
        created = tokens.create_token(platform, current, name, seconds, progress)
    note(f"the token {created.name} of {current.name}, shown only now:")
    click.echo(created.token)
    if was_open:
        note(f"{current.name} now answers only requests with credentials")


@click.command(cls=Command)
@click.argument("function", shell_complete=complete_function_name)
@output_option()
@pass_session
def list_(session: Session, function: str, output: str) -> None:
    """List the tokens of FUNCTION, without their values."""
    from dataclasses import asdict

    from fnbuild.cli.output import format_table, print_value
    from fnbuild.deploy import tokens

    stored = tokens.list_tokens(_deployment(session, function).function)
    if output in ("json", "yaml"):
        print_value([asdict(entry) for entry in stored], output)
        return
    rows = [
        [entry.name, entry.created, entry.expires, "expired" if entry.expired else "valid"]
        for entry in stored
    ]
    click.echo(format_table(["name", "created", "expires", "state"], rows))


@click.command(cls=Command)
@click.argument("function", shell_complete=complete_function_name)
@click.argument("name")
@pass_session
def revoke(session: Session, function: str, name: str) -> None:
    """Revoke the token NAME of FUNCTION, which gets a new revision.

    Without a token, the function still asks for credentials.
    """
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.deploy import tokens

    current = _deployment(session, function)
    with ProgressDisplay(whole=session.verbose) as progress:
        tokens.revoke_token(session.connect(), current, name, progress)
    note(f"the token {name} of {current.name} is revoked")


def _deployment(session: Session, name: str) -> Deployment:
    return session.connect().deployment(session.namespace, name)
