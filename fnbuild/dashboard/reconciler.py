"""Bringing back what ought to run and does not: after a reboot, and whenever it is missed later.

What that is, each platform knows (`lapsed`): what somebody has stopped stays as it is, and so do
namespaces that nobody has looked at here. Each attempt is a change of the function like any other,
so two dashboards do not both make it, nor one while somebody deploys; and everybody can see it and
what it said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread

from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.operations.model import RESTORE
from fnbuild.dashboard.operations.runner import MAX_CONCURRENT, OperationRunner
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import FnbuildError
from fnbuild.platforms import FunctionKey, Platform
from fnbuild.platforms.audit import acting_as

ACTOR = "reconcile"

_INTERVAL_SECONDS = 5.0
_MIN_BACKOFF_SECONDS = 1.0
_MAX_BACKOFF_SECONDS = 300.0
_MAX_ATTEMPTS = MAX_CONCURRENT // 2  # people's changes need not wait for ours

_log = logging.getLogger(__name__)


def backoff(attempts: int) -> float:
    """Seconds from an attempt to the next one; without one, from when it is missed to the first.

    Who removes a container may be about to remove more of the function.
    """
    return min(_MAX_BACKOFF_SECONDS, _MIN_BACKOFF_SECONDS * 2.0**attempts)


@dataclass(slots=True)
class _RetrySchedule:
    """A function, or a platform itself, that does not run; `due` is a time of the clock."""

    due: float
    attempts: int = 0

    def tried(self) -> None:
        self.attempts += 1
        self.due = time.monotonic() + backoff(self.attempts)


class Reconciler:
    """For use on one event loop."""

    def __init__(self, inventory: Inventory, operations: OperationRunner):
        self._inventory = inventory
        self._operations = operations
        self._keepers: dict[str, _PlatformReconciler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to look after every platform that is there, or comes later."""
        self._inventory.on_change.append(self._ring)
        self._begin(self._find())

    async def stop(self) -> None:
        """End it. Attempts under way are operations, and end as those do."""
        self._inventory.on_change.remove(self._ring)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    def _ring(self) -> None:
        """Functions have changed: look at once."""
        for keeper in self._keepers.values():
            keeper.bell.set()

    async def _find(self) -> None:
        acting_as.set(ACTOR)
        while True:
            for platform, _ in self._inventory.shown():
                if platform.name not in self._keepers:
                    keeper = _PlatformReconciler(platform, self._inventory, self._operations)
                    self._keepers[platform.name] = keeper
                    self._begin(keeper.run())
            await asyncio.sleep(_MIN_BACKOFF_SECONDS)


class _PlatformReconciler:
    """Looks after one platform; a silent one keeps no other waiting."""

    def __init__(self, platform: Platform, inventory: Inventory, operations: OperationRunner):
        self._platform = platform
        self._inventory = inventory
        self._operations = operations
        self._missed: dict[FunctionKey, _RetrySchedule] = {}
        self._itself: _RetrySchedule | None = None
        self.bell = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                await self._look()
            except FnbuildError:
                pass  # it is silent, as every list says
            except Exception:  # noqa: BLE001 - one look's trouble must not be the last one's
                _log.exception("looking after the platform %s failed", self._platform.name)
            await asyncio.sleep(_MIN_BACKOFF_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_due()):
                    await self.bell.wait()
            self.bell.clear()

    def _until_due(self) -> float:
        now = time.monotonic()
        missed = [*self._missed.values(), *([self._itself] if self._itself else [])]
        return max(0.0, min([one.due - now for one in missed], default=_INTERVAL_SECONDS))

    async def _look(self) -> None:
        shown = self._inventory.namespaces
        found = await run_in_thread(self._platform.functions_to_restore)
        lapsed = [key for key in found if key.namespace in shown]
        first = time.monotonic() + backoff(0)
        self._missed = {key: self._missed.get(key) or _RetrySchedule(first) for key in lapsed}
        under_way = 0
        for key, missed in self._missed.items():
            if under_way == _MAX_ATTEMPTS:
                break
            newest = await anyio.to_thread.run_sync(self._operations.newest, *key)
            if newest is not None and newest.in_progress:
                under_way += newest.actor == ACTOR
            elif time.monotonic() >= missed.due:
                await self._attempt(key)
                missed.tried()
                under_way += 1
        if not lapsed:
            await self._look_after_itself()

    async def _attempt(self, key: FunctionKey) -> None:
        begin = partial(
            self._operations.begin,
            *key,
            platform=self._platform.name,
            action=RESTORE,
            actor=ACTOR,
            function=None,
            work=partial(self._platform.restore, function=key),
        )
        # Somebody was quicker: another dashboard, or who deploys it.
        with contextlib.suppress(FnbuildError):
            await anyio.to_thread.run_sync(begin)

    async def _look_after_itself(self) -> None:
        """Start what functions need while they run on without it, such as a supervisor."""
        if not await run_in_thread(self._platform.problems):
            self._itself = None
        elif self._itself is None:
            self._itself = _RetrySchedule(time.monotonic() + backoff(0))
        elif time.monotonic() >= self._itself.due:
            self._itself.tried()
            await run_in_thread(self._platform.restore, _log.info)
