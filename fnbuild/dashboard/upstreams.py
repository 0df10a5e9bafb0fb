"""Upstreams: the URLs at which this dashboard reaches functions.

Some platforms need an open resource for that, such as a port-forward. It stays open while requests
use it and for some time after the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio.to_thread

from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.objects import hide_secrets
from fnbuild.errors import NotReadyError
from fnbuild.platforms import Deployment
from fnbuild.runtime.access.credentials import TOKEN_HEADER

# An upstream is looked up again after the first of these, meanwhile used up to the second.
_FRESH_SECONDS = 1.0
_USABLE_SECONDS = 2.0
_KEPT_SECONDS = 60.0
_SWEEP_SECONDS = 5.0

_TOKEN_KEY = TOKEN_HEADER.lower()

_FunctionKey = tuple[str, str]

_HINTS = {
    "imported": "it has no code here yet: deploy it",
    "standby": "it is disabled: enable it on its page, or deploy it without `disable`",
    "building": "wait until it is ready",
    "error": "correct the error, and deploy it again",
    "scaledToZero": "it has no replicas: start it again",
}


@dataclass(eq=False, slots=True)
class Upstream:
    """A function's URL as this dashboard reaches it; `urls` are all that clients may request.

    `headers` are those that the function needs, such as a token; their names are in lower case.
    """

    name: str
    url: str
    urls: frozenset[str]
    headers: Mapping[str, str]
    fingerprint: tuple[object, ...]
    resources: ExitStack
    checked: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    users: int = 0
    retired: bool = False


class Upstreams:
    """The upstreams of functions, looked up on first use and cached."""

    def __init__(self, inventory: Inventory):
        self._inventory = inventory
        self._upstreams: dict[_FunctionKey, Upstream] = {}
        self._lookups: dict[_FunctionKey, asyncio.Task[Upstream]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        tasks = [*self._lookups.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for key in list(self._upstreams):
            self.forget(*key)
        await asyncio.gather(*self._closing)

    @asynccontextmanager
    async def acquire(self, namespace: str, name: str) -> AsyncIterator[Upstream]:
        """Yield a function's upstream, held open while the block lasts.

        Raises `NotFoundError` if there is no such function, `NotReadyError` if it cannot serve.
        """
        upstream = await self._get((namespace, name))
        upstream.users += 1
        try:
            yield upstream
        finally:
            upstream.users -= 1
            upstream.used = time.monotonic()
            if upstream.retired and not upstream.users:
                self._close(upstream)

    def forget(self, namespace: str, name: str) -> None:
        """Look the function up again next time: its upstream has failed or changed."""
        if (upstream := self._upstreams.pop((namespace, name), None)) is not None:
            upstream.retired = True
            if not upstream.users:
                self._close(upstream)

    async def _get(self, key: _FunctionKey) -> Upstream:
        upstream = self._upstreams.get(key)
        age = time.monotonic() - upstream.checked if upstream else _USABLE_SECONDS
        if upstream is not None and age < _FRESH_SECONDS:
            return upstream
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.create_task(self._look_up(key))
            lookup.add_done_callback(partial(self._end_lookup, key))
        if upstream is not None and age < _USABLE_SECONDS:
            return upstream
        return await asyncio.shield(lookup)

    def _end_lookup(self, key: _FunctionKey, lookup: asyncio.Task[Upstream]) -> None:
        del self._lookups[key]
        if not lookup.cancelled() and lookup.exception() is not None:
            self.forget(*key)

    async def _look_up(self, key: _FunctionKey) -> Upstream:
        entry = await self._inventory.function(*key)
        platform = self._inventory.platform(entry.platform)
        state = _fingerprint(entry.deployment)
        upstream = self._upstreams.get(key)
        headers: Mapping[str, str] = {}
        if upstream is not None and _TOKEN_KEY in upstream.headers:
            # Some platforms take a request to read the token, which stays the same meanwhile.
            headers = upstream.headers if upstream.fingerprint[: len(state)] == state else {}
        if not headers:
            needed = await anyio.to_thread.run_sync(platform.request_headers, entry.deployment)
            headers = {name.lower(): value for name, value in needed.items()}
        fingerprint = (*state, *headers.items())
        if upstream is not None and upstream.fingerprint == fingerprint:
            upstream.checked = time.monotonic()
            return upstream
        self.forget(*key)
        upstream = await anyio.to_thread.run_sync(self._open, entry, headers, fingerprint)
        self._upstreams[key] = upstream
        return upstream

    def _open(
        self, entry: FunctionEntry, headers: Mapping[str, str], fingerprint: tuple[object, ...]
    ) -> Upstream:
        deployment = entry.deployment
        with ExitStack() as resources:
            platform = self._inventory.platform(entry.platform)
            url = resources.enter_context(platform.reachable_url(deployment))
            if not url:
                raise not_ready_error(deployment)
            published = (*deployment.internal_urls, *deployment.external_urls, url)
            urls = frozenset(without_scheme(address) for address in published)
            return Upstream(deployment.name, url, urls, headers, fingerprint, resources.pop_all())

    def _close(self, upstream: Upstream) -> None:
        closing = asyncio.create_task(anyio.to_thread.run_sync(upstream.resources.close))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            oldest = time.monotonic() - _KEPT_SECONDS
            for key, upstream in list(self._upstreams.items()):
                if not upstream.users and upstream.used < oldest:
                    self.forget(*key)


def without_scheme(url: str) -> str:
    """Return a URL in comparable form: Nuclio's have no scheme, ours may have one."""
    return url.removeprefix("http://").rstrip("/")


def not_ready_error(deployment: Deployment) -> NotReadyError:
    message = hide_secrets(deployment.message, deployment.function)
    reason = f": {message.splitlines()[0]}" if message else ""
    hint = _HINTS.get(deployment.state, "its log says more")
    return NotReadyError(f"{deployment.name} is {deployment.state}{reason}", hint=hint)


def _fingerprint(deployment: Deployment) -> tuple[object, ...]:
    """Return the properties on which an upstream depends: while they stay, it stays valid."""
    return (
        deployment.platform,
        deployment.revision,
        deployment.http_port,
        deployment.internal_urls,
        deployment.external_urls,
        deployment.replicas[0] > 0,
    )
