"""The processor's log: JSON lines for machines, short coloured lines on a terminal."""

import json
import os
import time
from typing import Any, Dict, Optional

from .human import Lines

READY = "The function is ready"
"""The message of the processor once every worker has run `init_context`."""

LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}

_RESERVED = frozenset(["time", "level", "name", "message", "worker", "request_id", "trace_id"])


class Record:
    """One line of the log. `time` is in milliseconds since the epoch."""

    __slots__ = (
        "level", "message", "name", "request_id", "time", "trace_id", "variables", "worker",
    )  # fmt: skip

    def __init__(
        self,
        level: str,
        message: str,
        name: str = "processor",
        worker: Optional[str] = None,
        variables: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.level = level
        self.message = message
        self.name = name
        self.worker = worker
        self.variables = variables or {}
        self.request_id: Optional[str] = None
        self.trace_id: Optional[str] = None
        self.time = time.time() * 1000.0

    def to_dict(self) -> Dict[str, Any]:
        """The record with its variables at the top level; none of them hides a field."""
        values: Dict[str, Any] = {
            "time": round(self.time, 3),
            "level": self.level,
            "name": self.name,
            "message": self.message,
        }
        if self.worker is not None:
            values["worker"] = self.worker
        if self.request_id is not None:
            values["request_id"] = self.request_id
        if self.trace_id is not None:
            values["trace_id"] = self.trace_id
        for key, value in self.variables.items():
            values[key + "_" if key in _RESERVED else key] = value
        return values


class Log:
    """Writes records to a descriptor; never raises, since a full disk must not end a function."""

    def __init__(self, level: str = "debug", style: str = "auto", fd: int = 1) -> None:
        self.level = level
        self.threshold = LEVELS[level]
        self._fd = fd
        terminal = os.isatty(fd)
        self._human = style == "human" or (style == "auto" and terminal)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._lines = Lines(terminal and not plain)

    def write(self, record: Record) -> None:
        """Write the record unless its level is below the log's."""
        if LEVELS.get(record.level, 10) < self.threshold:
            return
        text = self._lines.line(_plain(record)) if self._human else _to_json(record)
        data = (text + "\n").encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            pass

    def info(self, message: str, **variables: Any) -> None:
        self.write(Record("info", message, variables=variables))

    def warn(self, message: str, **variables: Any) -> None:
        self.write(Record("warn", message, variables=variables))

    def error(self, message: str, **variables: Any) -> None:
        self.write(Record("error", message, variables=variables))


def _to_json(record: Record) -> str:
    return json.dumps(_plain(record), ensure_ascii=False, default=repr)


def _plain(record: Record) -> Dict[str, Any]:
    """The record as values that can be written as JSON."""
    values = record.to_dict()
    try:
        json.dumps(values, default=repr)
    except (TypeError, ValueError):
        # A variable that holds itself has no JSON; its record is still worth a line.
        record.variables = {k: repr(v) for k, v in record.variables.items()}
        values = record.to_dict()
    return values
