"""Messages on stderr: notes, warnings and errors."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from collections.abc import Mapping

import click

from fnbuild.cli.session import Session
from fnbuild.errors import ConfigError, FnbuildError

_COMMAND_IN_MESSAGE = re.compile(r"`fnbuild ([^`]+)`")
# These commands do not depend on the platform or the namespace.
_COMMANDS_WITHOUT_OPTIONS = (
    "build",
    "completion",
    "down",
    "help",
    "init",
    "run",
    "up",
    "validate",
    "version",
)
_LONG_OPTIONS = {"-n": "--namespace", "-k": "--kubeconfig"}


def add_options_to_commands(text: str, options: Mapping[str, str]) -> str:
    """Add the options to each fnbuild command that the text suggests.

    After `fnbuild -n other …`, a suggested command has to be about the same namespace.
    """

    def with_options(match: re.Match[str]) -> str:
        arguments = match[1].split()
        if arguments[0].startswith("-") or arguments[0] in _COMMANDS_WITHOUT_OPTIONS:
            return match[0]
        missing = [
            f"{option} {shlex.quote(value)}"
            for option, value in options.items()
            if not {option, _LONG_OPTIONS.get(option, option)} & set(arguments)
        ]
        return f"`{' '.join(['fnbuild', match[1], *missing])}`"

    return _COMMAND_IN_MESSAGE.sub(with_options, text) if options else text


def note(text: str) -> None:
    """Print a line on stderr. Suggested commands get the options of the current command line."""
    context = click.get_current_context(silent=True)
    session = context.find_object(Session) if context is not None else None
    if session is not None:
        text = add_options_to_commands(text, session.location_options)
    click.echo(text, err=True, color=colour_override())


def warn(text: str) -> None:
    """Print a warning on stderr."""
    note(f"{click.style('warning', fg='yellow')}: {text}")


def count_text(number: int, word: str, zero: str = "0") -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number or zero} {word}" + ("" if number == 1 else "s")


def colour_override() -> bool | None:
    """Return False if colours are disabled (https://no-color.org, dumb terminals), else None.

    None lets click decide by whether the output is a terminal.
    """
    return False if os.environ.get("NO_COLOR") or _is_dumb_terminal() else None


def is_interactive() -> bool:
    """Return True if stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and not _is_dumb_terminal()


def _is_dumb_terminal() -> bool:
    return os.environ.get("TERM") == "dumb"


def report_error(error: Exception, *, verbose: bool) -> int:
    """Print the error on stderr and return the exit status.

    `verbose` adds the traceback of an internal error.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        note(error.format_message())
        return error.exit_code
    if isinstance(error, click.ClickException):
        if isinstance(error, click.UsageError) and error.ctx is not None:
            note(error.ctx.get_usage())
        _print_line("error", error.format_message())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            _print_line("hint", f"`{error.ctx.command_path} --help`")
        return error.exit_code
    if isinstance(error, FnbuildError):
        print_error(error)
        return error.exit_status
    if verbose:
        note("".join(traceback.format_exception(error)).rstrip())
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    _print_line("error", f"internal error: {summary} (run with -v for the traceback)")
    return 1


def print_error(error: FnbuildError) -> None:
    """Print an error: diagnostics, the user's own output, the message, the remedy."""
    if isinstance(error, ConfigError) and len(error.report):
        note(error.report.render())
        if error.report.diagnostics[-1].message == error.message:
            # The report ends with the message of the error.
            return
    if error.detail:
        note(error.detail.rstrip())
    _print_line("error", error.message)
    if error.hint:
        _print_line("hint", error.hint)


def _print_line(word: str, text: str) -> None:
    colour = "red" if word == "error" else "cyan"
    note(f"{click.style(word, fg=colour)}: {text}")
