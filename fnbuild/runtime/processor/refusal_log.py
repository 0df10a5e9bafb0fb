"""The requests that the processor itself refused, in the log: the first, then their number."""

import asyncio
from typing import Dict, Optional

from ..logs import Log, LogRecord

# How long requests refused with the same status are only counted after one was logged, seconds.
WINDOW = 10.0


class _RefusalCount:
    """What was refused with one status since it was last written of."""

    __slots__ = ("count", "reason", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.count = 0
        self.reason = ""


class RefusalLog:
    """Logs the first request refused with a status, then how many more there were, per window."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, window: float = WINDOW) -> None:
        self._loop = loop
        self._log = log
        self._window = window
        self._kinds: Dict[int, _RefusalCount] = {}

    def note(self, status: int, reason: str, request_id: Optional[str] = None) -> None:
        """One request was refused."""
        kind = self._kinds.get(status)
        if kind is not None:
            kind.count += 1
            kind.reason = reason
            return
        record = LogRecord("warn", "a request was refused with %d: %s" % (status, reason))
        record.request_id = request_id
        self._log.write(record)
        self._watch(status)

    def _watch(self, status: int) -> None:
        timer = self._loop.call_later(self._window, self._sum_up, status)
        self._kinds[status] = _RefusalCount(timer)

    def _sum_up(self, status: int) -> None:
        kind = self._kinds.pop(status)
        if kind.count:
            self._write(status, kind)
            self._watch(status)

    def _write(self, status: int, kind: _RefusalCount) -> None:
        words = "%d more requests were refused with %d; the last: %s"
        self._log.warn(words % (kind.count, status, kind.reason))

    def close(self) -> None:
        """Write of what was only counted so far."""
        for status, kind in self._kinds.items():
            kind.timer.cancel()
            if kind.count:
                self._write(status, kind)
        self._kinds = {}
