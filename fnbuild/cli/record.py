"""`fnbuild record`: list, export or clear the recorded requests of a function."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, note, warn
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.output import format_table, output_option, print_value
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.platforms import Platform


@click.command(cls=Command)
@click.argument("name", shell_complete=complete_function_name)
@click.option(
    "--export",
    "archive",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the requests, pictures and replies to this tar archive.",
)
@click.option("--clear", is_flag=True, help="Remove all recorded requests.")
@output_option()
@pass_session
def record(session: Session, name: str, archive: Path | None, clear: bool, output: str) -> None:
    """List the recorded requests of a function, or export or clear them.

    `fnbuild deploy --record 200Mi` records requests and replies, without headers that carry
    credentials and without queries. `fnbuild replay` sends them to another revision.
    """
    platform = session.connect()
    if archive is not None:
        from fnbuild.platforms.recordings import export_archive

        count = export_archive(platform, session.namespace, name, archive)
        note(f"exported {count_text(count, 'request')} to {archive}")
    entries = []
    if archive is None and not clear:
        entries = _entries(platform, session.namespace, name)
        _print(entries, output)
    if clear:
        removed = platform.recordings(session.namespace, name, "clear")
        note(f"removed {count_text(sum(map(int, removed)), 'recorded request')}")
    elif not entries and archive is None:
        _warn_if_off(platform, session.namespace, name)


def _entries(platform: Platform, namespace: str, name: str) -> list[dict[str, Any]]:
    answers = platform.recordings(namespace, name, "list")
    return sorted((entry for text in answers for entry in json.loads(text)), key=_time)


def _time(entry: dict[str, Any]) -> float:
    return float(entry["time"])


def _print(entries: list[dict[str, Any]], output: str) -> None:
    if output in ("json", "yaml"):
        print_value(entries, output)
        return
    header = ["id", "time", "method", "path", "status", "ms", "bytes", "pictures"]
    rows = [_row(entry) for entry in entries]
    if output == "wide":
        header += ["sha256 of the pictures"]
        rows = [
            [*row, ", ".join(digest for _, digest in entry["images"])]
            for row, entry in zip(rows, entries, strict=True)
        ]
    click.echo(format_table(header, rows))


def _row(entry: dict[str, Any]) -> list[object]:
    when = datetime.fromtimestamp(_time(entry)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    milliseconds = f"{entry['seconds'] * 1000:.1f}"
    place = (entry["method"], entry["path"], entry["status"])
    return [entry["id"], when, *place, milliseconds, entry["bytes"], len(entry["images"])]


def _warn_if_off(platform: Platform, namespace: str, name: str) -> None:
    from fnbuild.function.record_settings import record_settings

    if record_settings(platform.deployment(namespace, name).function) is None:
        hint = f"fnbuild update function {name} --record"
        warn(f"{os.path.basename(name)} records no requests; `{hint}` turns it on")
