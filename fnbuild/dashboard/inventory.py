"""The functions of every platform as one list, kept up to date while clients request it.

Each platform is polled in the background, so that one that does not answer delays no client. A
change that is made here, or that a platform reports, makes the next list wait for new answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.cvat import list_rules
from fnbuild.dashboard.operations.model import Operation, function_status
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
from fnbuild.deploy.projects import project_of
from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.platforms import Deployment, FunctionState, Platform


@dataclass(frozen=True, slots=True)
class FunctionEntry:
    """One function. `state` and `message` are those for clients, who wait for the end of a change.

    `set_aside` says why CVAT's lists are without it, "" when they are not; `absence` why CVAT does
    not ask for it, or passes it over, although nothing is wrong with it. `shadowed` when the
    function of that name on another platform comes first. `operation` is the newest change that
    was asked for here. `activated` is when the active revision became active, in seconds since the
    epoch; 0 when it did before this dashboard looked.
    """

    deployment: Deployment
    state: FunctionState
    message: str
    set_aside: str = ""
    operation: Operation | None = None
    shadowed: bool = False
    absence: str = ""
    activated: float = 0.0

    @property
    def name(self) -> str:
        name = self.deployment.name
        return f"{name}@{self.platform}" if self.shadowed else name

    @property
    def platform(self) -> str:
        return self.deployment.platform

    @property
    def for_cvat(self) -> bool:
        """Whether CVAT can show it."""
        return not self.set_aside and "type" in self.deployment.function.metadata.annotations


def merge_entries(
    found: Iterable[Deployment], operations: Mapping[str, Operation], default: str
) -> list[FunctionEntry]:
    """The functions of all platforms by name; `found` has the default platform's first.

    A change of a function that no platform has yet makes it one of the list.
    """
    listed: dict[str, FunctionEntry] = {}
    for one in found:
        if (first := listed.get(one.name)) is None:
            listed[one.name] = function_entry(one, operations.get(one.name))
        else:
            listed[f"{one.name}@{one.platform}"] = shadowed_entry(one, first.platform)
    for name, operation in operations.items():
        if name not in listed and (coming := pending_entry(operation, default)) is not None:
            listed[name] = coming
    return [listed[name] for name in sorted(listed)]


def function_entry(deployment: Deployment, operation: Operation | None = None) -> FunctionEntry:
    """A function whose name is its own, with what CVAT would make of it."""
    if operation is not None and operation.platform not in ("", deployment.platform):
        operation = None
    state, message = function_status(deployment, operation, time.time())
    annotations = deployment.function.metadata.annotations
    words = list_rules.verdict_of_annotations(annotations).words if "type" in annotations else ""
    absence = list_rules.reason_not_listed(annotations, project_of(deployment.function))
    return FunctionEntry(deployment, state, message, words, operation, absence=absence)


def shadowed_entry(deployment: Deployment, first: str) -> FunctionEntry:
    """A function whose name another one has, which is on the platform `first`."""
    reason = f"the function of that name on the platform {first} comes first"
    return FunctionEntry(deployment, deployment.state, deployment.message, reason, shadowed=True)


def pending_entry(operation: Operation, default: str) -> FunctionEntry | None:
    """The function that a change makes, while no platform has it; None when there will be none."""
    function = operation.function
    if function is None or operation.state == "done" or operation.revision:
        return None
    platform = operation.platform or default
    state: FunctionState = "building" if operation.in_progress else "error"
    return function_entry(Deployment(function, platform, state, operation.message), operation)


_FunctionKey = tuple[str, str, str]


class ActivationTimes:
    """Times by function; 0 for a revision that was already active when it was first seen."""

    def __init__(self) -> None:
        self._seen: dict[_FunctionKey, tuple[int, float]] = {}

    def stamped(self, listed: FunctionEntry) -> FunctionEntry:
        """Return the function with the time at which its active revision was first seen active."""
        deployment = listed.deployment
        revision = deployment.revision
        if not revision:
            return listed
        key = (deployment.platform, deployment.function.metadata.namespace, deployment.name)
        seen = self._seen.get(key)
        if seen is None or seen[0] != revision:
            seen = self._seen[key] = (revision, time.time() if seen else 0.0)
        return replace(listed, activated=seen[1])


_MAX_AGE_SECONDS = 1.0
"""Seconds that a list is old at most."""

_POLL_SECONDS = 0.75
"""Seconds between two questions to the platforms while somebody is interested."""

_CHANGE_CHECK_SECONDS = 0.1
"""Seconds between two looks at whether a platform knows of a change."""

_IDLE_SECONDS = 10.0
"""Seconds after the last question during which lists are kept fresh without one."""


@dataclass(slots=True, eq=False)
class Snapshot:
    """The list of one namespace; a new one whenever anything differs.

    `encoded` keeps what was made of it, by whatever its maker asks for it with. `refusal` says why
    a platform may not be read there.
    """

    listed: tuple[FunctionEntry, ...] = ()
    refusal: FnbuildError | None = None
    encoded: dict[Any, bytes] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Namespace:
    """A namespace that somebody asks about."""

    name: str
    view: Snapshot = field(default_factory=Snapshot)
    feeds: dict[str, FunctionPoller] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)
    asked: float = 0.0
    watchers: set[asyncio.Event] = field(default_factory=set)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None


class Inventory:
    """For use on the event loop that runs it, but for `changed` and `last`."""

    def __init__(self, settings: Settings, operations: OperationRunner):
        self._settings = settings
        self._operations = operations
        self._presence = PlatformDiscovery(settings)
        self._activations = ActivationTimes()
        self._spaces: dict[str, _Namespace] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._met = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_change: list[Callable[[], None]] = []
        """Called when a list differs from the one before. Nobody is asked for their sake."""

    async def start(self) -> None:
        """Begin what works in the background."""
        self._loop = asyncio.get_running_loop()
        self._operations.on_change.append(self.changed)
        self._begin(self._meet())

    async def stop(self) -> None:
        """End it."""
        for task in list(self._tasks):
            task.cancel()
        for space in list(self._spaces.values()):
            for feed in space.feeds.values():
                await feed.close()
        with contextlib.suppress(ValueError):
            self._operations.on_change.remove(self.changed)

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _meet(self) -> None:
        """See which platforms are there, again and again."""
        while True:
            await self._presence.ask()
            self._met.set()
            await asyncio.sleep(DISCOVERY_SECONDS)

    # Platforms

    async def met(self) -> None:
        """Return once every platform has been asked, or has kept silent."""
        await self._met.wait()

    def platform(self, name: str = "") -> Platform:
        """One by name, the default without; `UsageError` for one that is not shown here."""
        return self._presence.platform(name)

    def shown(self) -> list[tuple[Platform, list[str]]]:
        """The platforms that are there, the default first, with what is wrong with each."""
        return [(one.platform, self._troubles(one)) for one in self._presence.shown]

    def _troubles(self, one: Candidate) -> list[str]:
        """What it said of itself, or that it says nothing now."""
        space = self._spaces.get(self._settings.namespace)
        feed = space.feeds.get(one.platform.name) if space is not None else None
        if feed is not None and feed.silence and not one.notices:
            return [f"it {feed.silence}"]
        return list(one.notices)

    # Lists

    async def functions(self, namespace: str, project: str | None = None) -> list[FunctionEntry]:
        """All functions by name, or those of a project."""
        view = await self.view(namespace)
        return [one for one in view.listed if is_in_project(one, project)]

    async def view(self, namespace: str) -> Snapshot:
        """The list, `AGE` old at most."""
        space = self._space(namespace)
        space.asked = time.monotonic()
        await self._refresh(space, _MAX_AGE_SECONDS)
        if not self._forget(space) and space.keeper is None:
            space.keeper = self._begin(self._keep(space))
        return space.view

    def _forget(self, space: _Namespace) -> bool:
        """Anybody can ask about any namespace; nothing is kept of those where nothing is."""
        wanted = space.view.listed or space.watchers or space.keeper
        if wanted or space.name == self._settings.namespace:
            return False
        if self._spaces.get(space.name) is space:
            del self._spaces[space.name]
        return True

    def last(self, namespace: str) -> list[FunctionEntry]:
        """The functions as they were last known; asks nobody."""
        space = self._spaces.get(namespace)
        return list(space.view.listed) if space is not None else []

    @property
    def namespaces(self) -> set[str]:
        """The dashboard's own, and those that somebody has asked about."""
        return {self._settings.namespace, *self._spaces}

    def changed(self) -> None:
        """Let the next list be fresh, and tell who watches. May be called from any thread."""
        for space in list(self._spaces.values()):
            for feed in list(space.feeds.values()):
                feed.changed()
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(space.hurry.set)

    async def watch(self, namespace: str = "") -> AsyncGenerator[None, None]:
        """Once now, then at every difference of the namespace's list."""
        space = self._space(namespace or self._settings.namespace)
        bell = asyncio.Event()
        space.watchers.add(bell)
        try:
            await self.view(space.name)
            bell.set()
            while True:
                await bell.wait()
                bell.clear()
                yield
        finally:
            space.watchers.discard(bell)
            self._forget(space)

    def _space(self, namespace: str) -> _Namespace:
        return self._spaces.setdefault(namespace, _Namespace(namespace))

    async def _keep(self, space: _Namespace) -> None:
        """Ask the platforms again and again while somebody wants to know."""
        try:
            while space.watchers or time.monotonic() - space.asked < _IDLE_SECONDS:
                await self._pause(space)
                await self._refresh(space, _POLL_SECONDS / 2)
        finally:
            space.keeper = None
            self._forget(space)

    async def _pause(self, space: _Namespace) -> None:
        """Wait until it is time to ask again, or there is a reason to."""
        ends = time.monotonic() + _POLL_SECONDS
        while time.monotonic() < ends:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(space.hurry.wait(), _CHANGE_CHECK_SECONDS)
            if space.hurry.is_set() or any(feed.notice() for feed in space.feeds.values()):
                break
        space.hurry.clear()

    async def _refresh(self, space: _Namespace, age: float) -> None:
        await self._met.wait()
        feeds = self._feeds(space)
        await asyncio.gather(*(feed.fresh(age) for feed in feeds))
        versions = [feed.version for feed in feeds]
        if versions == space.versions:
            return
        space.versions = versions
        found = [one for feed in feeds for one in feed.deployments]
        operations = self._operations.all(space.name)
        together = merge_entries(found, operations, self._presence.default.name)
        now = tuple(self._activations.stamped(one) for one in together)
        refusal = next((feed.refusal for feed in feeds if feed.refusal is not None), None)
        if now != space.view.listed or str(refusal) != str(space.view.refusal):
            space.view = Snapshot(now, refusal)
            for bell in space.watchers:
                bell.set()
            for tell in self.on_change:
                tell()

    def _feeds(self, space: _Namespace) -> list[FunctionPoller]:
        """The namespace's feeds, the default platform's first."""
        for one in self._presence.shown:
            name = one.platform.name
            if name not in space.feeds:
                space.feeds[name] = FunctionPoller(one.platform, space.name)
        return list(space.feeds.values())

    # One function

    async def function(self, namespace: str, name: str) -> FunctionEntry:
        """The function as it is now. `NotFoundError` when no platform has it, nor will."""
        await self._met.wait()
        plain, _, chosen = name.partition("@")
        for platform in self._order(namespace, plain, chosen):
            found = await self._asked(platform, namespace, plain)
            if found is None:
                continue
            if chosen and (first := self._first(namespace, plain)) not in ("", platform.name):
                return self._activations.stamped(shadowed_entry(found, first))
            known = function_entry(found, self._operations.newest(namespace, plain))
            return self._activations.stamped(known)
        operation = self._operations.newest(namespace, plain)
        if operation is not None and not chosen:
            coming = pending_entry(operation, self._presence.default.name)
            if coming is not None:
                return coming
        raise NotFoundError("Function not found", hint=f"no platform has {name!r} in {namespace}")

    def _first(self, namespace: str, name: str) -> str:
        """The platform whose function of that name comes first, "" when none is known."""
        return next((one.platform for one in self.last(namespace) if one.name == name), "")

    def _order(self, namespace: str, name: str, chosen: str) -> Iterator[Platform]:
        """Where to look for a function: where it is, as far as a fresh list tells, comes first."""
        if chosen:
            yield self.platform(chosen)
            return
        space = self._spaces.get(namespace)
        kept = space is not None and space.keeper is not None
        first = self._first(namespace, name) if kept else ""
        shown = [one.platform for one in self._presence.shown]
        yield from sorted(shown, key=lambda one: one.name != first)

    async def _asked(self, platform: Platform, namespace: str, name: str) -> Deployment | None:
        """What the platform says; what it said last when it is silent."""
        space = self._spaces.get(namespace)
        feed = space.feeds.get(platform.name) if space is not None else None
        try:
            if feed is None or not feed.silence:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await run_in_thread(platform.deployment, namespace, name)
        except NotFoundError:
            return None
        except (FnbuildError, TimeoutError):
            pass
        known = (one.deployment for one in self.last(namespace))
        return next((one for one in known if _matches(one, platform, name)), None)


def _matches(one: Deployment, platform: Platform, name: str) -> bool:
    return one.platform == platform.name and one.name == name


def is_in_project(one: FunctionEntry, project: str | None) -> bool:
    return project in (None, "", project_of(one.deployment.function))
