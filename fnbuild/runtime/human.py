"""The log as people read it: one form for a processor on a terminal, `fnbuild logs` and `run`.

    09:15:02.123 (I) w0 #3f2a9c1b looking {"ms": 12}

Time, first letter of the level, worker, start of the request's id, message, variables. The date
stands before the time of what is older than today. The id is there where another request begins,
and what a handler prints in one go reads as one block; JSON has everything in every record.
"""

import json
import time
from typing import Any, Dict, Optional, Tuple

PRINTED = ("stdout", "stderr")
_KNOWN = frozenset(["time", "level", "name", "message", "worker", "request_id"])
_COLOURS = {"debug": "2", "warn": "33", "warning": "33", "error": "31", "critical": "31"}

_ID_LETTERS = 8
_TOGETHER_MS = 100.0
"""What is printed so soon after the line before belongs to it."""


class Lines:
    """Writes records one after the other. `colour` marks the levels for a terminal."""

    def __init__(self, colour: bool = False) -> None:
        self._colour = colour
        self._origin: Tuple[Any, Any] = (None, None)
        self._printed: Optional[Tuple[str, str]] = None
        self._time = 0.0
        self._width = 0

    def line(self, values: Dict[str, Any]) -> str:
        """The record, with `time` in milliseconds since the epoch; no line break at its end."""
        moment = float(values.get("time") or 0.0)
        level, name = str(values.get("level") or "-"), str(values.get("name") or "")
        worker, request = values.get("worker"), values.get("request_id")
        message = str(values.get("message", "")).rstrip("\n")
        variables = {key: value for key, value in values.items() if key not in _KNOWN}
        more = " " + _json(variables) if variables else ""
        first, *rest = message.split("\n")
        said = [first + more, *rest]
        same = self._origin == (worker, request)
        printed = (name, level) if name in PRINTED else None
        soon = 0 <= moment - self._time < _TOGETHER_MS
        goes_on = same and soon and printed is not None and printed == self._printed
        self._origin, self._printed, self._time = (worker, request), printed, moment
        if goes_on:
            return "\n".join(" " * self._width + line for line in said)
        origin = "" if worker is None else " w%s" % worker
        if request and not same:
            origin += " #" + str(request)[:_ID_LETTERS]
        clock = _clock(moment)
        letter = "(%s)" % level[:1].upper()
        self._width = len(clock) + 1 + len(letter) + len(origin) + 1
        if self._colour and level in _COLOURS:
            letter = "\x1b[%sm%s\x1b[0m" % (_COLOURS[level], letter)
        head = "%s %s%s %s" % (clock, letter, origin, said[0])
        return "\n".join([head, *(" " * self._width + line for line in said[1:])])


def _clock(moment: float) -> str:
    """The local time, after the date when that is not today's."""
    if not moment:
        return "--:--:--.---"
    there, now = time.localtime(moment / 1000.0), time.localtime()
    date = "" if there[:3] == now[:3] else time.strftime("%Y-%m-%d ", there)
    return "%s%s.%03d" % (date, time.strftime("%H:%M:%S", there), int(moment) % 1000)


def _json(variables: Dict[str, Any]) -> str:
    return json.dumps(variables, ensure_ascii=False, default=repr)
