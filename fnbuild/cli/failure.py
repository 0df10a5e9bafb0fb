"""How a failure is told: the user's own traceback first, then what failed, then the remedy."""

from __future__ import annotations

import traceback

import click

from fnbuild.errors import ConfigError, FnbuildError


def show(error: Exception, *, verbose: bool) -> int:
    """Write the error to stderr and return the exit status. Never a traceback of fnbuild's own,
    unless it is a bug and `verbose` asks for it."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.ClickException):
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        _line("error", error.format_message())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            _line("hint", f"{error.ctx.command_path} --help")
        return error.exit_code
    if isinstance(error, FnbuildError):
        tell(error)
        return error.exit_status
    if verbose:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    _line("error", f"internal error: {summary} (run with -v for the traceback)")
    return 1


def tell(error: FnbuildError) -> None:
    """The parts of an error in the order people need them."""
    if isinstance(error, ConfigError) and len(error.report):
        click.echo(error.report.render(), err=True)
        if error.report.diagnostics[-1].message == error.message:
            # The only finding, and the error's own words: said already.
            return
    if error.detail:
        click.echo(error.detail.rstrip(), err=True)
    _line("error", error.message)
    if error.hint:
        _line("hint", error.hint)


def _line(word: str, text: str) -> None:
    colour = "red" if word == "error" else "cyan"
    click.echo(f"{click.style(word, fg=colour)}: {text}", err=True)
