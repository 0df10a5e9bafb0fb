"""The processor's log: JSON lines for machines, short coloured lines for people.

Lines for people have the same form in the log of a processor on a terminal, in `fnbuild logs` and
in `fnbuild run`:

    09:15:02.123 (I) w0 #3f2a9c1b looking {"ms": 12}

They have the time, the first letter of the level, the worker, the start of the request's id, the
message and its variables. The date precedes the time of records that are older than today. The id
appears where another request begins, and what a handler prints at once is one block. JSON lines
have every field.
"""

import json
import os
import time
from typing import Any, Dict, Optional, Tuple

OUTPUT_STREAMS = ("stdout", "stderr")
LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}

READY_MESSAGE = "The function is ready"
"""Logged by the processor once every worker has run `init_context`."""

# The parts of a line for people; the other values of a record follow them as JSON.
_FIELDS = frozenset(["time", "level", "name", "message", "worker", "request_id"])
# Names that a variable of a record cannot have.
_RESERVED = _FIELDS | {"trace_id"}
_COLOURS = {"debug": "2", "warn": "33", "warning": "33", "error": "31", "critical": "31"}

_ID_LETTERS = 8
# Output that follows the previous line within this time belongs to the same block.
_BLOCK_MS = 100.0


class LineFormatter:
    """A formatter of consecutive records for people. `colour` marks the levels for a terminal."""

    def __init__(self, colour: bool = False) -> None:
        self._colour = colour
        self._origin: Tuple[Any, Any] = (None, None)
        self._printed: Optional[Tuple[str, str]] = None
        self._time = 0.0
        self._width = 0

    def line(self, values: Dict[str, Any]) -> str:
        """Return the record without a final line break; its `time` is in milliseconds."""
        moment = float(values.get("time") or 0.0)
        level, name = str(values.get("level") or "-"), str(values.get("name") or "")
        worker, request = values.get("worker"), values.get("request_id")
        message = str(values.get("message", "")).rstrip("\n")
        variables = {key: value for key, value in values.items() if key not in _FIELDS}
        suffix = " " + _json(variables) if variables else ""
        first, *rest = message.split("\n")
        lines = [first + suffix, *rest]
        same_origin = self._origin == (worker, request)
        printed = (name, level) if name in OUTPUT_STREAMS else None
        soon = 0 <= moment - self._time < _BLOCK_MS
        continues = same_origin and soon and printed is not None and printed == self._printed
        self._origin, self._printed, self._time = (worker, request), printed, moment
        if continues:
            return "\n".join(" " * self._width + line for line in lines)
        origin = "" if worker is None else " w%s" % worker
        if request and not same_origin:
            origin += " #" + str(request)[:_ID_LETTERS]
        clock = _format_time(moment)
        letter = "(%s)" % level[:1].upper()
        self._width = len(clock) + 1 + len(letter) + len(origin) + 1
        if self._colour and level in _COLOURS:
            letter = "\x1b[%sm%s\x1b[0m" % (_COLOURS[level], letter)
        head = "%s %s%s %s" % (clock, letter, origin, lines[0])
        return "\n".join([head, *(" " * self._width + line for line in lines[1:])])


def _format_time(moment: float) -> str:
    """Return the local time, preceded by the date unless that is today."""
    if not moment:
        return "--:--:--.---"
    local, now = time.localtime(moment / 1000.0), time.localtime()
    date = "" if local[:3] == now[:3] else time.strftime("%Y-%m-%d ", local)
    return "%s%s.%03d" % (date, time.strftime("%H:%M:%S", local), int(moment) % 1000)


def _json(values: Dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, default=repr)


class LogRecord:
    """A record of the log. `time` is in milliseconds since the epoch."""

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
        """Return the record with its variables at the top level; none of them hides a field."""
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
    """A log to a descriptor. It never raises: a full disk must not end a function."""

    def __init__(self, level: str = "debug", style: str = "auto", fd: int = 1) -> None:
        self.level = level
        self.threshold = LEVELS[level]
        self._fd = fd
        terminal = os.isatty(fd)
        self._human = style == "human" or (style == "auto" and terminal)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._formatter = LineFormatter(terminal and not plain)

    def write(self, record: LogRecord) -> None:
        """Write the record unless its level is below the log's."""
        if LEVELS.get(record.level, 10) < self.threshold:
            return
        values = _json_values(record)
        text = self._formatter.line(values) if self._human else _json(values)
        data = (text + "\n").encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            pass

    def info(self, message: str, **variables: Any) -> None:
        self.write(LogRecord("info", message, variables=variables))

    def warn(self, message: str, **variables: Any) -> None:
        self.write(LogRecord("warn", message, variables=variables))

    def error(self, message: str, **variables: Any) -> None:
        self.write(LogRecord("error", message, variables=variables))


def _json_values(record: LogRecord) -> Dict[str, Any]:
    """Return the values of the record, all of which JSON can encode."""
    values = record.to_dict()
    try:
        json.dumps(values, default=repr)
    except (TypeError, ValueError):
        # A variable that contains itself has no JSON; its record is logged nevertheless.
        record.variables = {k: repr(v) for k, v in record.variables.items()}
        values = record.to_dict()
    return values
