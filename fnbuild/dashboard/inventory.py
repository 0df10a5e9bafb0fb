"""The functions of every platform as one list, kept up to date while clients request it.

Each platform is polled in the background, so that one that does not answer delays no client. A
change that is made here, or that a platform reports, makes the next list wait for new answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fnbuild.dashboard.function_entries import (
    ActivationTimes,
    FunctionEntry,
    function_entry,
    is_in_project,
    merge_entries,
    pending_entry,
    shadowed_entry,
)
from fnbuild.dashboard.operations.runner import OperationRunner
from fnbuild.dashboard.polling import (
    ANSWER_SECONDS,
    DISCOVERY_SECONDS,
    Candidate,
    FunctionPoller,
    PlatformDiscovery,
)
from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.platforms import Deployment, Platform

_MAX_AGE_SECONDS = 1.0
"""The age up to which a list is current enough for a client."""

_POLL_SECONDS = 0.75
"""The interval at which platforms are polled while there is interest in a namespace."""

_CHANGE_CHECK_SECONDS = 0.1
"""The interval at which the change counters of platforms are compared."""

_IDLE_SECONDS = 10.0
"""Seconds after the last request during which a list is kept up to date."""


@dataclass(slots=True, eq=False)
class Snapshot:
    """The list of one namespace at a time; whenever anything differs, there is a new one.

    `encoded` caches its representations. `refusal` is the error of a platform that may not be read.
    """

    entries: tuple[FunctionEntry, ...] = ()
    refusal: FnbuildError | None = None
    encoded: dict[Any, bytes] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Namespace:
    """A namespace that clients have requested."""

    name: str
    snapshot: Snapshot = field(default_factory=Snapshot)
    pollers: dict[str, FunctionPoller] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)
    requested: float = 0.0
    watchers: set[asyncio.Event] = field(default_factory=set)
    wake_up: asyncio.Event = field(default_factory=asyncio.Event)
    refresher: asyncio.Task[None] | None = None


class Inventory:
    """The functions of all platforms as one list for each namespace.

    For use on the event loop that runs it, except for `invalidate` and `cached_functions`.
    """

    def __init__(self, settings: Settings, operations: OperationRunner):
        self._settings = settings
        self._operations = operations
        self._discovery = PlatformDiscovery(settings)
        self._activation_times = ActivationTimes()
        self._namespaces: dict[str, _Namespace] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._discovered = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_change: list[Callable[[], None]] = []
        """Called when a list differs from the one before. Callbacks cause no polling."""

    async def start(self) -> None:
        """Start the work in the background."""
        self._loop = asyncio.get_running_loop()
        self._operations.on_change.append(self.invalidate)
        self._start_task(self._discover())

    async def stop(self) -> None:
        """Stop the work in the background."""
        for task in list(self._tasks):
            task.cancel()
        for namespace in list(self._namespaces.values()):
            for poller in namespace.pollers.values():
                await poller.close()
        with contextlib.suppress(ValueError):
            self._operations.on_change.remove(self.invalidate)

    def _start_task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _discover(self) -> None:
        """Probe the platforms at intervals."""
        while True:
            await self._discovery.probe()
            self._discovered.set()
            await asyncio.sleep(DISCOVERY_SECONDS)

    # Platforms

    async def wait_for_platforms(self) -> None:
        """Wait until every platform has been probed once, with or without an answer."""
        await self._discovered.wait()

    def platform(self, name: str = "") -> Platform:
        """Return a platform by name, else the default. Raises `UsageError` if not available."""
        return self._discovery.platform(name)

    def platforms(self) -> list[tuple[Platform, list[str]]]:
        """Return the available platforms with their notices, the default one first."""
        return [
            (candidate.platform, self._notices(candidate))
            for candidate in self._discovery.available
        ]

    def _notices(self, candidate: Candidate) -> list[str]:
        """Return a platform's own notices, or that it does not answer now."""
        namespace = self._namespaces.get(self._settings.namespace)
        poller = namespace.pollers.get(candidate.platform.name) if namespace is not None else None
        if poller is not None and poller.outage and not candidate.notices:
            return [f"it {poller.outage}"]
        return list(candidate.notices)

    # Lists

    async def functions(self, namespace: str, project: str | None = None) -> list[FunctionEntry]:
        """Return all functions by name, or those of a project."""
        snapshot = await self.snapshot(namespace)
        return [entry for entry in snapshot.entries if is_in_project(entry, project)]

    async def snapshot(self, name: str) -> Snapshot:
        """Return the current list of a namespace."""
        namespace = self._namespace(name)
        namespace.requested = time.monotonic()
        await self._refresh(namespace, _MAX_AGE_SECONDS)
        if not self._drop_if_empty(namespace) and namespace.refresher is None:
            namespace.refresher = self._start_task(self._keep_refreshed(namespace))
        return namespace.snapshot

    def _drop_if_empty(self, namespace: _Namespace) -> bool:
        """Drop a namespace without functions, because clients may request any name."""
        in_use = namespace.snapshot.entries or namespace.watchers or namespace.refresher
        if in_use or namespace.name == self._settings.namespace:
            return False
        if self._namespaces.get(namespace.name) is namespace:
            del self._namespaces[namespace.name]
        return True

    def cached_functions(self, name: str) -> list[FunctionEntry]:
        """Return the functions of the last list of a namespace, without polling."""
        namespace = self._namespaces.get(name)
        return list(namespace.snapshot.entries) if namespace is not None else []

    @property
    def namespaces(self) -> set[str]:
        """The dashboard's own namespace, and those that clients have requested."""
        return {self._settings.namespace, *self._namespaces}

    def invalidate(self) -> None:
        """Let the next list wait for new answers, and wake watchers. Usable from any thread."""
        for namespace in list(self._namespaces.values()):
            for poller in list(namespace.pollers.values()):
                poller.invalidate()
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(namespace.wake_up.set)

    async def watch(self, name: str) -> AsyncGenerator[None, None]:
        """Yield once at first, then whenever the list of the namespace differs."""
        namespace = self._namespace(name)
        changed = asyncio.Event()
        namespace.watchers.add(changed)
        try:
            await self.snapshot(namespace.name)
            changed.set()
            while True:
                await changed.wait()
                changed.clear()
                yield
        finally:
            namespace.watchers.discard(changed)
            self._drop_if_empty(namespace)

    def _namespace(self, name: str) -> _Namespace:
        return self._namespaces.setdefault(name, _Namespace(name))

    async def _keep_refreshed(self, namespace: _Namespace) -> None:
        """Poll the platforms while there is interest in the namespace."""
        try:
            while namespace.watchers or time.monotonic() - namespace.requested < _IDLE_SECONDS:
                await self._pause(namespace)
                await self._refresh(namespace, _POLL_SECONDS / 2)
        finally:
            namespace.refresher = None
            self._drop_if_empty(namespace)

    async def _pause(self, namespace: _Namespace) -> None:
        """Wait for the next poll, or for a reason to poll earlier."""
        deadline = time.monotonic() + _POLL_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(namespace.wake_up.wait(), _CHANGE_CHECK_SECONDS)
            pollers = namespace.pollers.values()
            if namespace.wake_up.is_set() or any(
                poller.invalidate_if_changed() for poller in pollers
            ):
                break
        namespace.wake_up.clear()

    async def _refresh(self, namespace: _Namespace, max_age: float) -> None:
        await self._discovered.wait()
        pollers = self._pollers(namespace)
        await asyncio.gather(*(poller.refresh(max_age) for poller in pollers))
        versions = [poller.version for poller in pollers]
        if versions == namespace.versions:
            return
        namespace.versions = versions
        deployments = [deployment for poller in pollers for deployment in poller.deployments]
        operations = self._operations.newest_by_function(namespace.name)
        merged = merge_entries(deployments, operations, self._discovery.default.name)
        entries = tuple(self._activation_times.add_to(entry) for entry in merged)
        refusal = next((poller.refusal for poller in pollers if poller.refusal is not None), None)
        previous = namespace.snapshot
        if entries != previous.entries or str(refusal) != str(previous.refusal):
            namespace.snapshot = Snapshot(entries, refusal)
            for changed in namespace.watchers:
                changed.set()
            for callback in self.on_change:
                callback()

    def _pollers(self, namespace: _Namespace) -> list[FunctionPoller]:
        """Return the namespace's pollers, the default platform's first."""
        for candidate in self._discovery.available:
            name = candidate.platform.name
            if name not in namespace.pollers:
                namespace.pollers[name] = FunctionPoller(candidate.platform, namespace.name)
        return list(namespace.pollers.values())

    # One function

    async def function(self, namespace: str, name: str) -> FunctionEntry:
        """Return the function as it is now. Raises `NotFoundError` without one, present or pending.

        `name` may be NAME@PLATFORM.
        """
        await self._discovered.wait()
        plain_name, _, platform_name = name.partition("@")
        for platform in self._search_order(namespace, plain_name, platform_name):
            deployment = await self._deployment(platform, namespace, plain_name)
            if deployment is None:
                continue
            first = self._first_platform(namespace, plain_name) if platform_name else ""
            if first not in ("", platform.name):
                return self._activation_times.add_to(shadowed_entry(deployment, first))
            operation = self._operations.newest(namespace, plain_name)
            return self._activation_times.add_to(function_entry(deployment, operation))
        operation = self._operations.newest(namespace, plain_name)
        if operation is not None and not platform_name:
            entry = pending_entry(operation, self._discovery.default.name)
            if entry is not None:
                return entry
        raise NotFoundError("Function not found", hint=f"no platform has {name!r} in {namespace}")

    def _first_platform(self, namespace: str, name: str) -> str:
        """Return the platform whose function has that name without a suffix, "" if unknown."""
        entries = self.cached_functions(namespace)
        return next((entry.platform for entry in entries if entry.name == name), "")

    def _search_order(self, namespace: str, name: str, platform_name: str) -> Iterator[Platform]:
        """Yield the platforms that may have a function, beginning with the one in a fresh list."""
        if platform_name:
            yield self.platform(platform_name)
            return
        requested = self._namespaces.get(namespace)
        is_fresh = requested is not None and requested.refresher is not None
        first = self._first_platform(namespace, name) if is_fresh else ""
        platforms = [candidate.platform for candidate in self._discovery.available]
        yield from sorted(platforms, key=lambda platform: platform.name != first)

    async def _deployment(self, platform: Platform, namespace: str, name: str) -> Deployment | None:
        """Read a function from a platform; during an outage, return its last state."""
        requested = self._namespaces.get(namespace)
        poller = requested.pollers.get(platform.name) if requested is not None else None
        try:
            if poller is None or not poller.outage:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await run_in_thread(platform.deployment, namespace, name)
        except NotFoundError:
            return None
        except (FnbuildError, TimeoutError):
            pass
        deployments = (entry.deployment for entry in self.cached_functions(namespace))
        return next(
            (deployment for deployment in deployments if _matches(deployment, platform, name)), None
        )


def _matches(deployment: Deployment, platform: Platform, name: str) -> bool:
    return deployment.platform == platform.name and deployment.name == name
