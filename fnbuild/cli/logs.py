"""`fnbuild logs`: what a function wrote, and what was written about it."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli import INTERRUPTED
from fnbuild.cli.console import note
from fnbuild.cli.lazy import Command
from fnbuild.cli.names import function_name
from fnbuild.cli.session import Session, Whole, pass_session
from fnbuild.runtime import human

if TYPE_CHECKING:
    from fnbuild.platforms import Deployment, LogRecord, Platform

_NOT_RUNNING = {
    "imported": "was imported and never deployed: it has no log",
    "scaledToZero": "is scaled to zero: nothing runs that could write",
    "standby": "is disabled: nothing runs that could write",
    "stopped": "is stopped: nothing runs that could write",
}

_BAD = ("error", "critical", "fatal")

form_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["human", "json"]),
    help="Log lines for people, or a JSON object a line. "
    "[default: human on a terminal, otherwise json]",
)
"""How log records are written, for the commands that write them."""


@click.command(cls=Command)
@click.argument("name", shell_complete=function_name)
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--errors", is_flag=True, help="Only errors.")
@click.option("--since", metavar="DURATION", help="Only the last while, such as 10m or 1h30m.")
@click.option("--tail", type=Whole(min=0), metavar="N", help="Only the last N records.")
@click.option(
    "--previous",
    is_flag=True,
    help="What the containers wrote before they were started again. Clusters only.",
)
@form_option
@pass_session
@click.pass_context
def logs(ctx: click.Context, session: Session, /, name: str, **flags: Any) -> None:
    """Show a function's log, oldest record first.

    A line for people has the time, the level's first letter, the worker, and the start of a
    request's id where another request begins; JSON has every record whole.
    """
    platform = session.connect()
    shown = platform.deployment(session.namespace, name)
    since, errors, tail = flags["since"], flags["errors"], flags["tail"]
    records = _records(platform, session.namespace, name, flags)
    show = writer(flags["output"])
    silent = True
    if flags["follow"] and (why := _why_silent(shown)):
        note(why)
    try:
        for record in records:
            silent = False
            click.echo(show(record))
    except KeyboardInterrupt:
        if not flags["follow"]:
            raise
        # The usual way to stop following.
        ctx.exit(INTERRUPTED)
    if silent and not flags["follow"] and tail != 0:
        asked = " that was asked for" if since or errors else ""
        nothing = f"{name} has written nothing{asked}"
        if flags["previous"]:
            nothing = f"{name} has no earlier log: none of its containers was started again"
        note((not flags["previous"] and _why_silent(shown)) or nothing)


def _records(
    platform: Platform, namespace: str, name: str, flags: dict[str, Any]
) -> Iterator[LogRecord]:
    """Return the records that the flags ask for."""
    since = time.time() - _seconds(flags["since"]) if flags["since"] else None
    errors, follow = flags["errors"], flags["follow"]
    # With a filter the last N must be counted after it.
    tail = None if errors else flags["tail"]
    if flags["previous"]:
        if follow:
            raise click.UsageError("--previous and --follow exclude each other: that log has ended")
        records = platform.previous_logs(namespace, name, since=since, tail=tail)
    else:
        records = platform.logs(namespace, name, follow=follow, since=since, tail=tail)
    if not errors:
        return records
    records = (record for record in records if record.level.lower() in _BAD)
    if flags["tail"] is not None and not follow:
        return iter(deque(records, flags["tail"]))
    return records


def _why_silent(one: Deployment) -> str:
    """Why a function writes nothing now; "" when it may."""
    from fnbuild.cli.listing import reason

    if one.state in _NOT_RUNNING:
        return f"{one.name} {_NOT_RUNNING[one.state]}"
    return f"{one.name} is {one.state}: {reason(one.message)}" if one.message else ""


def writer(form: str | None) -> Callable[[LogRecord], str]:
    """What makes a line of a record, in the given form or the one that fits stdout."""
    form = form or ("human" if sys.stdout.isatty() else "json")
    return _as_json if form == "json" else Lines().line


class Lines:
    """Log records as people read them; click takes the colours off where nobody wants them."""

    def __init__(self) -> None:
        self._lines = human.Lines(colour=True)

    def line(self, record: LogRecord) -> str:
        return self._lines.line(_values(record))


def _values(record: LogRecord) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "time": round(record.time * 1000, 3),
        "level": record.level,
        "message": record.message,
    }
    if record.worker is not None:
        raw["worker"] = record.worker
    return {**raw, **record.fields}


def _as_json(record: LogRecord) -> str:
    import json

    return json.dumps(_values(record), ensure_ascii=False, default=str)


def _seconds(text: str) -> float:
    from fnbuild.errors import UsageError
    from fnbuild.spec.quantities import duration

    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from error
