"""Run blocking calls of platforms beside the event loop, and limit how many requests do so."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from fnbuild.dashboard.http import RefusedError

T = TypeVar("T")


async def run_in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Return the function's result, or raise its error.

    The call has a daemon thread of its own: a platform that does not answer delays neither other
    calls nor the end of the dashboard. If the caller is cancelled, the thread runs on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(set_outcome: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(lambda: None if future.done() else set_outcome())

    def run() -> None:
        try:
            result = context.run(function, *arguments)
        except BaseException as error:  # noqa: BLE001 - raised by the awaiting caller
            settle(partial(future.set_exception, error))
        else:
            settle(partial(future.set_result, result))

    threading.Thread(target=run, name="call to a platform", daemon=True).start()
    return await future


_RETRY_SECONDS = 2


class AdmissionLimiter:
    """Run `running` requests of a kind at a time, let `waiting` more wait, and refuse the rest."""

    def __init__(self, kind: str, running: int, waiting: int):
        self._kind = kind
        self._limit = running + waiting
        self._admitted = 0
        self.slots = asyncio.Semaphore(running)
        """The slots of the running requests: an admitted request waits for one, and holds it."""

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Count a request while the block lasts. Raises `RefusedError` (429) beyond the limit."""
        if self._admitted >= self._limit:
            raise RefusedError(
                429,
                f"{self._limit} {self._kind} are already in progress",
                hint=f"try again in {_RETRY_SECONDS} seconds",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    @asynccontextmanager
    async def admit_to_slot(self) -> AsyncIterator[None]:
        """Admit a request, and hold a slot while the block lasts.

        To read a large body first, use `admit` and take one of the `slots` afterwards.
        """
        async with self.admit(), self.slots:
            yield
