"""`fnbuild logs`: the log of a function."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import INTERRUPTED, Command
from fnbuild.cli.console import note
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.session import Session, WholeNumber, pass_session
from fnbuild.runtime.logs import LineFormatter

if TYPE_CHECKING:
    from fnbuild.platforms import Deployment, LogRecord, Platform

_NOT_RUNNING = {
    "imported": "was imported and never deployed: it has no log",
    "scaledToZero": "is scaled to zero: nothing runs that could write",
    "standby": "is disabled: nothing runs that could write",
    "stopped": "is stopped: nothing runs that could write",
}

_ERROR_LEVELS = ("error", "critical", "fatal")

log_format_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["human", "json"]),
    help="Readable lines, or one JSON object per line. "
    "[default: human on a terminal, otherwise json]",
)
"""The option for the format of log records."""


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@click.option("-f", "--follow", is_flag=True, help="Print new records until Ctrl-C.")
@click.option("--errors", is_flag=True, help="Only errors.")
@click.option("--since", metavar="DURATION", help="Only the last 10m, 1h30m, …")
@click.option("--tail", type=WholeNumber(min=0), metavar="N", help="Only the last N records.")
@click.option(
    "--previous",
    is_flag=True,
    help="Logs of the containers before their last restart. Clusters only.",
)
@click.option(
    "--init",
    is_flag=True,
    help="Log of the container that fetches the model. KServe only.",
)
@log_format_option
@pass_session
@click.pass_context
def logs(ctx: click.Context, session: Session, /, name: str, **flags: Any) -> None:
    """Show the log of a function, oldest record first.

    A readable line has the time, the level's first letter, the worker, and the start of the
    request's id where a new request begins. JSON has the complete records.
    """
    platform = session.connect()
    deployment = platform.deployment(session.namespace, name)
    since, errors, tail = flags["since"], flags["errors"], flags["tail"]
    records = _records(platform, session.namespace, name, flags)
    format_record = record_formatter(flags["output"])
    silent = True
    if flags["follow"] and (reason := _silence_reason(deployment)):
        note(reason)
    try:
        for record in records:
            silent = False
            click.echo(format_record(record))
    except KeyboardInterrupt:
        if not flags["follow"]:
            raise
        # The usual way to stop following.
        ctx.exit(INTERRUPTED)
    if silent and not flags["follow"] and tail != 0:
        selection = " that was asked for" if since or errors else ""
        message = f"{name} has written nothing{selection}"
        if flags["previous"]:
            message = f"{name} has no earlier log: none of its containers was started again"
        note((not flags["previous"] and _silence_reason(deployment)) or message)


def _records(
    platform: Platform, namespace: str, name: str, flags: dict[str, Any]
) -> Iterator[LogRecord]:
    """Return the records that the flags ask for."""
    from fnbuild.platforms import LogOptions

    since = time.time() - _parse_since(flags["since"]) if flags["since"] else None
    errors, follow = flags["errors"], flags["follow"]
    # --tail counts the records after filtering.
    options = LogOptions(follow, since, None if errors else flags["tail"])
    if flags["init"]:
        if flags["previous"]:
            raise click.UsageError("--init and --previous each name the log: give one of them")
        records = platform.init_logs(namespace, name, options)
    elif flags["previous"]:
        if follow:
            raise click.UsageError("--previous and --follow exclude each other: that log has ended")
        records = platform.previous_logs(namespace, name, options)
    else:
        records = platform.logs(namespace, name, options)
    if not errors:
        return records
    records = (record for record in records if record.level.lower() in _ERROR_LEVELS)
    if flags["tail"] is not None and not follow:
        return iter(deque(records, flags["tail"]))
    return records


def _silence_reason(deployment: Deployment) -> str:
    """Return the reason why a function writes no log now; "" if it may write."""
    from fnbuild.cli.listing import summary_line

    name, state = deployment.name, deployment.state
    if state in _NOT_RUNNING:
        return f"{name} {_NOT_RUNNING[state]}"
    return f"{name} is {state}: {summary_line(deployment.message)}" if deployment.message else ""


def record_formatter(form: str | None) -> Callable[[LogRecord], str]:
    """Return the function that formats records, by default for the type of stdout."""
    form = form or ("human" if sys.stdout.isatty() else "json")
    if form == "json":
        return _as_json
    # click removes the colours if the output has none.
    formatter = LineFormatter(colour=True)
    return lambda record: formatter.line(_record_values(record))


def _record_values(record: LogRecord) -> dict[str, Any]:
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

    return json.dumps(_record_values(record), ensure_ascii=False, default=str)


def _parse_since(text: str) -> float:
    from fnbuild.errors import UsageError
    from fnbuild.function.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from error
