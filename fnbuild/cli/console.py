"""Messages for people, on stderr beside the result."""

from __future__ import annotations

import os
import sys

import click

from fnbuild.cli import typed


def note(text: str) -> None:
    """One line for the person, beside the result: on stderr."""
    click.echo(typed.completed(text), err=True, color=colours())


def warn(text: str) -> None:
    """A warning on stderr; the word is coloured on a terminal."""
    note(f"{click.style('warning', fg='yellow')}: {text}")


def colours() -> bool | None:
    """False where nobody wants colours (https://no-color.org, terminals that have none).

    None leaves it to click, which asks whether the output is a terminal.
    """
    return False if os.environ.get("NO_COLOR") or _dumb() else None


def interactive() -> bool:
    """Whether a person watches stderr, on a terminal that can draw a moving line."""
    return sys.stderr.isatty() and not _dumb()


def _dumb() -> bool:
    return os.environ.get("TERM") == "dumb"
