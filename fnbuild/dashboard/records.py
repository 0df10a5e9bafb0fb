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
"""Opens a log, which ends soon after the event is set."""


class Followed:
    """One log, read by a thread of its own until nobody wants more of it."""

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
        self._ended = False
        self._error: FnbuildError | None = None

    async def batches(self, silence: float) -> AsyncIterator[list[LogRecord]]:
        """What has come, as soon as there is something; nothing after so many seconds of silence.

        Ends with the log; raises what the log has failed with.
        """
        Thread(target=self._run, name="follow a log", daemon=True).start()
        try:
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
        finally:
            self._until.set()
            self._running.discard(self)

    def _run(self) -> None:
        try:
            for record in self._read(self._until):
                if self._until.is_set():
                    return
                self._put(record)
        except FnbuildError as error:
            self._error = error
        finally:
            with self._room:
                self._ended = True
            self._tell()

    def _put(self, record: LogRecord) -> None:
        with self._room:
            while len(self._found) >= _AHEAD and not self._until.is_set():
                self._room.wait(_LOOK_SECONDS)
            first = not self._found
            self._found.append(record)
        if first:
            self._tell()

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._some.set)
