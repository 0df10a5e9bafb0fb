"""Log requests that the processor refused: the first one, then their number per window."""

import asyncio
from typing import Dict, Optional

from ..logs import Log, LogRecord

# Seconds for which requests refused with the same status are only counted after one was logged.
_WINDOW = 10.0


class _RefusalCount:
    """The requests refused with one status since the last record about them."""

    __slots__ = ("count", "reason", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.count = 0
        self.reason = ""


class RefusalLog:
    """A log of the first request refused with a status, then of the others per window."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._loop = loop
        self._log = log
        self._counts: Dict[int, _RefusalCount] = {}

    def add(self, status: int, reason: str, request_id: Optional[str] = None) -> None:
        """Log or count a refused request."""
        counted = self._counts.get(status)
        if counted is not None:
            counted.count += 1
            counted.reason = reason
            return
        record = LogRecord("warn", "a request was refused with %d: %s" % (status, reason))
        record.request_id = request_id
        self._log.write(record)
        self._watch(status)

    def _watch(self, status: int) -> None:
        timer = self._loop.call_later(_WINDOW, self._sum_up, status)
        self._counts[status] = _RefusalCount(timer)

    def _sum_up(self, status: int) -> None:
        counted = self._counts.pop(status)
        if counted.count:
            self._write(status, counted)
            self._watch(status)

    def _write(self, status: int, counted: _RefusalCount) -> None:
        message = "%d more requests were refused with %d; the last: %s"
        self._log.warn(message % (counted.count, status, counted.reason))

    def close(self) -> None:
        """Log what was only counted so far."""
        for status, counted in self._counts.items():
            counted.timer.cancel()
            if counted.count:
                self._write(status, counted)
        self._counts = {}
