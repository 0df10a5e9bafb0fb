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
from fnbuild.errors import FnbuildError

T = TypeVar("T")


async def run_in_thread(question: Callable[..., T], *arguments: object) -> T:
    """What the question answers. Whoever is cancelled leaves it to itself."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(give: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if answer.done() else give())

    def work() -> None:
        try:
            result = context.run(question, *arguments)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
            settle(partial(answer.set_exception, error))
        else:
            settle(partial(answer.set_result, result))

    threading.Thread(target=work, name="question to a platform", daemon=True).start()
    return await answer


def error_line(error: FnbuildError) -> str:
    """What a platform answered instead, in one line with what to do about it."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


_RETRY_SECONDS = 2


class AdmissionLimiter:
    """Admit `running` requests at a time, let `waiting` more wait, and refuse the rest."""

    def __init__(self, what: str, running: int, waiting: int):
        self._what = what
        self._most = running + waiting
        self._admitted = 0
        self._places = asyncio.Semaphore(running)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a request while the block lasts. Raises `RefusedError` (429) beyond the limit."""
        if self._admitted >= self._most:
            raise RefusedError(
                429,
                f"{self._most} {self._what} are already in progress",
                hint=f"try again in {_RETRY_SECONDS} seconds",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place among the running requests, and keep it while the block lasts."""
        async with self._places:
            yield

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[None]:
        """Admit a request and wait for its place, when reading its body is cheap."""
        async with self.admitted(), self.place():
            yield
