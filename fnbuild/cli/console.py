"""Messages on stderr: notes, warnings and errors."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback

import click

from fnbuild.errors import ConfigError, FnbuildError

_COMMAND_IN_MESSAGE = re.compile(r"`fnbuild ([^`]+)`")
# They are about folders and this program alone.
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

_global_options: dict[str, str] = {}


def clear_global_options() -> None:
    """Begin with a new command line."""
    _global_options.clear()


def record_global_option(option: str, value: str) -> None:
    """Note an option of this command line by the name it has in messages."""
    _global_options[option] = value


def complete_commands(text: str) -> str:
    """The text, in which each proposed command has the options that this command line has."""
    return _COMMAND_IN_MESSAGE.sub(_complete_command, text) if _global_options else text


def _complete_command(found: re.Match[str]) -> str:
    words = found[1].split()
    if words[0].startswith("-") or words[0] in _COMMANDS_WITHOUT_OPTIONS:
        return found[0]
    given = [
        f"{option} {shlex.quote(value)}"
        for option, value in _global_options.items()
        if not {option, _LONG_OPTIONS.get(option, option)} & set(words)
    ]
    return f"`{' '.join(['fnbuild', found[1], *given])}`"


def note(text: str) -> None:
    """One line for the person, beside the result: on stderr."""
    click.echo(complete_commands(text), err=True, color=color_override())


def warn(text: str) -> None:
    """A warning on stderr; the word is coloured on a terminal."""
    note(f"{click.style('warning', fg='yellow')}: {text}")


def color_override() -> bool | None:
    """False where nobody wants colours (https://no-color.org, terminals that have none).

    None leaves it to click, which asks whether the output is a terminal.
    """
    return False if os.environ.get("NO_COLOR") or _is_dumb_terminal() else None


def is_interactive() -> bool:
    """Whether a person watches stderr, on a terminal that can draw a moving line."""
    return sys.stderr.isatty() and not _is_dumb_terminal()


def _is_dumb_terminal() -> bool:
    return os.environ.get("TERM") == "dumb"


def report_error(error: Exception, *, verbose: bool) -> int:
    """Write the error to stderr and return the exit status. Never a traceback of fnbuild's own,
    unless it is a bug and `verbose` asks for it."""
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
    """The parts of an error in the order people need them."""
    if isinstance(error, ConfigError) and len(error.report):
        note(error.report.render())
        if error.report.diagnostics[-1].message == error.message:
            # The only finding, and the error's own words: said already.
            return
    if error.detail:
        note(error.detail.rstrip())
    _print_line("error", error.message)
    if error.hint:
        _print_line("hint", error.hint)


def _print_line(word: str, text: str) -> None:
    colour = "red" if word == "error" else "cyan"
    note(f"{click.style(word, fg=colour)}: {text}")
