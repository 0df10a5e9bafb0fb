"""Records of logs on their way from a platform, which waits for them, to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from threading import Condition, Event, Thread
from typing import ClassVar
from weakref import WeakSet

from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms import LogRecord

# So many wait for a slow reader before the log itself waits.
_AHEAD = 5000
_LOOK_SECONDS = 0.5
_AT_ONCE = 100

Read = Callable[[Event], Iterator[LogRecord]]
"""Open a log, fixing the position in it; its records end soon after the event is set."""


class Followed:
    """A log that a thread of its own reads, from `open` until `close`."""

    _running: ClassVar[WeakSet[Followed]] = WeakSet()

    def __init__(self, read: Read):
        if len(self._running) >= _AT_ONCE:
            raise UnavailableError(
                f"{_AT_ONCE} logs are being followed here already",
                hint="close some pages, or ask without `follow`",
            )
        self._running.add(self)
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._some = asyncio.Event()
        self._room = Condition()
        self._found: deque[LogRecord] = deque()
        self._until = Event()
        self._opened = asyncio.Event()
        self._ended = False
        self._error: FnbuildError | None = None

    async def open(self) -> None:
        """Start reading, and return once the position in the log is fixed.

        Records that are written after this returns are not missed. Raises the log's error if it
        cannot be opened. A caller that stops here calls `close`.
        """
        Thread(target=self._run, name="follow a log", daemon=True).start()
        await self._opened.wait()
        if self._ended and self._error is not None and not self._found:
            raise self._error

    def close(self) -> None:
        """Let the thread end, and make room for another log."""
        self._until.set()
        self._running.discard(self)

    async def batches(self, silence: float) -> AsyncIterator[list[LogRecord]]:
        """Yield new records as they arrive, or [] after `silence` seconds without any.

        Ends with the log. Raises the error if the log failed.
        """
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), silence)
            self._some.clear()
            with self._room:
                taken, ended = list(self._found), self._ended
                self._found.clear()
                self._room.notify_all()
            if taken or not ended:
                yield taken
            if ended:
                break
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            records = self._read(self._until)
            self._tell(self._opened)
            for record in records:
                if self._until.is_set():
                    return
                self._put(record)
        except FnbuildError as error:
            self._error = error
        finally:
            with self._room:
                self._ended = True
            self._tell(self._opened)
            self._tell(self._some)

    def _put(self, record: LogRecord) -> None:
        with self._room:
            while len(self._found) >= _AHEAD and not self._until.is_set():
                self._room.wait(_LOOK_SECONDS)
            first = not self._found
            self._found.append(record)
        if first:
            self._tell(self._some)

    def _tell(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(event.set)
