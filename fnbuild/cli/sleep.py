"""`fnbuild sleep` and `fnbuild wake`: release the memory of a function, and load it again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import SleepAction


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@pass_session
def sleep(session: Session, name: str) -> None:
    """Release the memory of a function's workers until the next request.

    The function stays ready: its next request waits until the workers are loaded again. With
    `fnbuild deploy --idle-timeout 10m` they sleep by themselves.
    """
    _change_sleep(session, name, "sleep")
    note(f"{name} is asleep; the next request wakes it")


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@pass_session
def wake(session: Session, name: str) -> None:
    """Load the workers of a sleeping function, before its next request needs them."""
    began = time.monotonic()
    _change_sleep(session, name, "wake")
    note(f"{name} is awake after {time.monotonic() - began:.1f} s")


def _change_sleep(session: Session, name: str, action: SleepAction) -> None:
    session.connect().change_sleep(session.namespace, name, action)
