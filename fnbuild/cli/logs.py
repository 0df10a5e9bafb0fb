"""`fnbuild logs`: what a function wrote, and what was written about it."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.lazy import Command
from fnbuild.cli.names import function_name
from fnbuild.cli.session import Session, Whole, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import LogRecord

_COLOURS = {"error": "red", "critical": "red", "warning": "yellow", "warn": "yellow"}
_BAD = ("error", "critical", "fatal")


@click.command(cls=Command)
@click.argument("name", shell_complete=function_name)
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--errors", is_flag=True, help="Only errors.")
@click.option("--since", metavar="DURATION", help="Only the last while, such as 10m or 1h30m.")
@click.option("--tail", type=Whole(min=0), metavar="N", help="Only the last N records.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or a JSON object a line.",
)
@pass_session
def logs(session: Session, /, name: str, **flags: Any) -> None:
    """Show a function's log, oldest record first."""
    platform = session.connect()
    platform.deployment(session.namespace, name)
    since, errors, tail = flags["since"], flags["errors"], flags["tail"]
    records = platform.logs(
        session.namespace,
        name,
        follow=flags["follow"],
        since=time.time() - _seconds(since) if since else None,
        # With a filter the last N must be counted after it.
        tail=None if errors else tail,
    )
    if errors:
        records = (record for record in records if record.level.lower() in _BAD)
        if tail is not None and not flags["follow"]:
            records = iter(deque(records, tail))
    for record in records:
        click.echo(_as_json(record) if flags["output"] == "json" else line(record))


def line(record: LogRecord) -> str:
    """`HH:MM:SS.mmm (I) message {fields}`, in local time; the level is coloured on a terminal."""
    moment = time.strftime("%H:%M:%S", time.localtime(record.time))
    moment += f".{int(record.time * 1000) % 1000:03d}"
    letter = f"({record.level[:1].upper() or '-'})"
    if record.level in _COLOURS:
        letter = click.style(letter, fg=_COLOURS[record.level])
    worker = f" w{record.worker}" if record.worker is not None else ""
    fields = {key: value for key, value in record.fields.items() if key != "name"}
    more = f" {_short(fields)}" if fields else ""
    first, newline, rest = record.message.rstrip("\n").partition("\n")
    return f"{moment} {letter}{worker} {first}{more}{newline}{rest}"


def _short(fields: dict[str, Any]) -> str:
    import json

    return json.dumps(fields, ensure_ascii=False, default=str)


def _as_json(record: LogRecord) -> str:
    import json

    raw: dict[str, Any] = {
        "time": round(record.time * 1000, 3),
        "level": record.level,
        "message": record.message,
    }
    if record.worker is not None:
        raw["worker"] = record.worker
    return json.dumps({**raw, **record.fields}, ensure_ascii=False, default=str)


def _seconds(text: str) -> float:
    from fnbuild.errors import UsageError
    from fnbuild.spec.quantities import duration

    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from error
