"""How a failure is told: the user's own traceback first, then what failed, then the remedy."""

from __future__ import annotations

import traceback

import click

from fnbuild.cli.console import note
from fnbuild.errors import ConfigError, FnbuildError


def show(error: Exception, *, verbose: bool) -> int:
    """Write the error to stderr and return the exit status. Never a traceback of fnbuild's own,
    unless it is a bug and `verbose` asks for it."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        note(error.format_message())
        return error.exit_code
    if isinstance(error, click.ClickException):
        if isinstance(error, click.UsageError) and error.ctx is not None:
            note(error.ctx.get_usage())
        _line("error", error.format_message())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            _line("hint", f"`{error.ctx.command_path} --help`")
        return error.exit_code
    if isinstance(error, FnbuildError):
        tell(error)
        return error.exit_status
    if verbose:
        note("".join(traceback.format_exception(error)).rstrip())
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    _line("error", f"internal error: {summary} (run with -v for the traceback)")
    return 1


def tell(error: FnbuildError) -> None:
    """The parts of an error in the order people need them."""
    if isinstance(error, ConfigError) and len(error.report):
        note(error.report.render())
        if error.report.diagnostics[-1].message == error.message:
            # The only finding, and the error's own words: said already.
            return
    if error.detail:
        note(error.detail.rstrip())
    _line("error", error.message)
    if error.hint:
        _line("hint", error.hint)


def _line(word: str, text: str) -> None:
    colour = "red" if word == "error" else "cyan"
    note(f"{click.style(word, fg=colour)}: {text}")
