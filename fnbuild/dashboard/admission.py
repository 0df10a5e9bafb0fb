"""A limit on the requests of a kind that run and wait at the same time; more are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fnbuild.dashboard.answers import RefusedError

_RETRY_SECONDS = 2


class Admission:
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
