"""Where functions are, as this dashboard reaches them.

Some platforms have to hold something open for that, such as a port-forward. It stays open while
requests use it and for a while behind the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio.to_thread

from fnbuild.dashboard.inventory import FunctionEntry, Inventory
from fnbuild.dashboard.objects import hide_secrets
from fnbuild.errors import NotReadyError
from fnbuild.platforms import Deployment

# What was found out is true for so long; while requests keep coming, it is asked again beside them.
_FRESH_SECONDS = 1.0
_USABLE_SECONDS = 2.0
_KEPT_SECONDS = 60.0
_SWEEP_SECONDS = 5.0

_FunctionKey = tuple[str, str]

_HINTS = {
    "imported": "it has no code here yet: deploy it",
    "standby": "it is disabled: enable it on its page, or deploy it without `disable`",
    "building": "wait until it is ready",
    "error": "mend what it says, and deploy it again",
    "scaledToZero": "it has no replicas; ask for one",
}


@dataclass(eq=False, slots=True)
class Upstream:
    """How requests get to a function. `urls` are all that clients may ask for."""

    name: str
    url: str
    urls: frozenset[str]
    serving: tuple[object, ...]
    opened: ExitStack
    asked: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    users: int = 0
    retired: bool = False


class Upstreams:
    """The ways to functions, found on first use and remembered."""

    def __init__(self, inventory: Inventory):
        self._inventory = inventory
        self._ways: dict[_FunctionKey, Upstream] = {}
        self._searches: dict[_FunctionKey, asyncio.Task[Upstream]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        tasks = [*self._searches.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for key in list(self._ways):
            self.forget(*key)
        await asyncio.gather(*self._closing)

    @asynccontextmanager
    async def way(self, namespace: str, name: str) -> AsyncIterator[Upstream]:
        """The way to a function, held open while the block lasts.

        `NotFoundError` when there is no such function, `NotReadyError` when nothing of it serves.
        """
        way = await self._found((namespace, name))
        way.users += 1
        try:
            yield way
        finally:
            way.users -= 1
            way.used = time.monotonic()
            if way.retired and not way.users:
                self._close(way)

    def forget(self, namespace: str, name: str) -> None:
        """Ask anew next time: the way has failed, or the function has changed."""
        if (way := self._ways.pop((namespace, name), None)) is not None:
            way.retired = True
            if not way.users:
                self._close(way)

    async def _found(self, key: _FunctionKey) -> Upstream:
        way = self._ways.get(key)
        age = time.monotonic() - way.asked if way else _USABLE_SECONDS
        if way is not None and age < _FRESH_SECONDS:
            return way
        search = self._searches.get(key)
        if search is None:
            search = self._searches[key] = asyncio.create_task(self._search(key))
            search.add_done_callback(partial(self._searched, key))
        if way is not None and age < _USABLE_SECONDS:
            return way
        return await asyncio.shield(search)

    def _searched(self, key: _FunctionKey, search: asyncio.Task[Upstream]) -> None:
        del self._searches[key]
        if not search.cancelled() and search.exception() is not None:
            self.forget(*key)

    async def _search(self, key: _FunctionKey) -> Upstream:
        listed = await self._inventory.function(*key)
        serving = _fingerprint(listed.deployment)
        way = self._ways.get(key)
        if way is not None and way.serving == serving:
            way.asked = time.monotonic()
            return way
        self.forget(*key)
        way = await anyio.to_thread.run_sync(self._open, listed, serving)
        self._ways[key] = way
        return way

    def _open(self, listed: FunctionEntry, serving: tuple[object, ...]) -> Upstream:
        deployment = listed.deployment
        with ExitStack() as stack:
            platform = self._inventory.platform(listed.platform)
            url = stack.enter_context(platform.reachable_url(deployment))
            if not url:
                raise not_ready_error(deployment)
            given = (*deployment.internal_urls, *deployment.external_urls, url)
            urls = frozenset(without_scheme(one) for one in given)
            return Upstream(deployment.name, url, urls, serving, stack.pop_all())

    def _close(self, way: Upstream) -> None:
        closing = asyncio.create_task(anyio.to_thread.run_sync(way.opened.close))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            old = time.monotonic() - _KEPT_SECONDS
            for key, way in list(self._ways.items()):
                if not way.users and way.used < old:
                    self.forget(*key)


def without_scheme(url: str) -> str:
    """An address as it can be compared: Nuclio's have no scheme, ours may."""
    return url.removeprefix("http://").rstrip("/")


def not_ready_error(deployment: Deployment) -> NotReadyError:
    message = hide_secrets(deployment.message, deployment.function)
    why = f": {message.splitlines()[0]}" if message else ""
    hint = _HINTS.get(deployment.state, "its log says more")
    return NotReadyError(f"{deployment.name} is {deployment.state}{why}", hint=hint)


def _fingerprint(deployment: Deployment) -> tuple[object, ...]:
    """What the way depends on: while this stays, so does the way."""
    return (
        deployment.platform,
        deployment.revision,
        deployment.http_port,
        deployment.internal_urls,
        deployment.external_urls,
        deployment.replicas[0] > 0,
    )
