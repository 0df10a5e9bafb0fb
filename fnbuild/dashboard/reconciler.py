"""Restore functions that should run and do not: after a reboot, and whenever they lapse later.

Each platform knows its lapsed functions. Those that a user stopped stay as they are, and so do
namespaces that no client has requested here. Each attempt is an operation of the function like any
other, so that two dashboards do not both make it, none is made during a deploy, and every client
sees it with its output.
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
from fnbuild.dashboard.operations.model import RESTORE, PlannedOperation
from fnbuild.dashboard.operations.runner import MAX_CONCURRENT, OperationRunner
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import FnbuildError
from fnbuild.platforms import FunctionKey, Platform
from fnbuild.platforms.audit import acting_as

ACTOR = "reconcile"

_INTERVAL_SECONDS = 5.0
_MIN_BACKOFF_SECONDS = 1.0
_MAX_BACKOFF_SECONDS = 300.0
_MAX_ATTEMPTS = MAX_CONCURRENT // 2  # operations of users need not wait for these

_log = logging.getLogger(__name__)


def backoff(attempts: int) -> float:
    """Return the seconds from an attempt to the next; for 0, from the lapse to the first attempt.

    The first attempt waits, too, because a user who removes a container may remove more.
    """
    return min(_MAX_BACKOFF_SECONDS, _MIN_BACKOFF_SECONDS * 2.0**attempts)


@dataclass(slots=True)
class _RetrySchedule:
    """The attempts to restore a function, or a platform; `due` is a monotonic time."""

    due: float
    attempts: int = 0

    def count_attempt(self) -> None:
        self.attempts += 1
        self.due = time.monotonic() + backoff(self.attempts)


class Reconciler:
    """Restores the lapsed functions of every platform. For use on one event loop."""

    def __init__(self, inventory: Inventory, operations: OperationRunner):
        self._inventory = inventory
        self._operations = operations
        self._reconcilers: dict[str, _PlatformReconciler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start to reconcile every platform that is available now or later."""
        self._inventory.on_change.append(self._wake_up)
        self._start_task(self._find_platforms())

    async def stop(self) -> None:
        """Stop. Attempts under way are operations, and end as those do."""
        self._inventory.on_change.remove(self._wake_up)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    def _wake_up(self) -> None:
        """Reconcile at once, because functions have changed."""
        for reconciler in self._reconcilers.values():
            reconciler.wake_up.set()

    async def _find_platforms(self) -> None:
        acting_as.set(ACTOR)
        while True:
            for platform, _ in self._inventory.platforms():
                if platform.name not in self._reconcilers:
                    reconciler = _PlatformReconciler(platform, self._inventory, self._operations)
                    self._reconcilers[platform.name] = reconciler
                    self._start_task(reconciler.run())
            await asyncio.sleep(_MIN_BACKOFF_SECONDS)


class _PlatformReconciler:
    """Reconciles one platform, so that one that does not answer delays no other."""

    def __init__(self, platform: Platform, inventory: Inventory, operations: OperationRunner):
        self._platform = platform
        self._inventory = inventory
        self._operations = operations
        self._functions: dict[FunctionKey, _RetrySchedule] = {}
        self._platform_schedule: _RetrySchedule | None = None
        self.wake_up = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                await self._reconcile()
            except FnbuildError:
                pass  # the platform does not answer, as every list says
            except Exception:  # noqa: BLE001 - the next attempt may succeed
                _log.exception("reconciling the platform %s failed", self._platform.name)
            await asyncio.sleep(_MIN_BACKOFF_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_until_due()):
                    await self.wake_up.wait()
            self.wake_up.clear()

    def _seconds_until_due(self) -> float:
        now = time.monotonic()
        schedules = list(self._functions.values())
        if self._platform_schedule is not None:
            schedules.append(self._platform_schedule)
        return max(0.0, min([each.due - now for each in schedules], default=_INTERVAL_SECONDS))

    async def _reconcile(self) -> None:
        namespaces = self._inventory.namespaces
        keys = await run_in_thread(self._platform.functions_to_restore)
        lapsed = [key for key in keys if key.namespace in namespaces]
        first = time.monotonic() + backoff(0)
        self._functions = {key: self._functions.get(key) or _RetrySchedule(first) for key in lapsed}
        under_way = 0
        for key, schedule in self._functions.items():
            if under_way == _MAX_ATTEMPTS:
                break
            newest = await anyio.to_thread.run_sync(self._operations.newest, *key)
            if newest is not None and newest.in_progress:
                under_way += newest.actor == ACTOR
            elif time.monotonic() >= schedule.due:
                await self._begin_restore(key)
                schedule.count_attempt()
                under_way += 1
        if not lapsed:
            await self._restore_platform()

    async def _begin_restore(self, key: FunctionKey) -> None:
        work = partial(self._platform.restore, function=key)
        planned = PlannedOperation(key, self._platform.name, RESTORE, work)
        # Another dashboard or a deploy may have begun first.
        with contextlib.suppress(FnbuildError):
            await anyio.to_thread.run_sync(self._operations.begin, planned, ACTOR)

    async def _restore_platform(self) -> None:
        """Start what functions need while they run on without it, such as a supervisor."""
        if not await run_in_thread(self._platform.problems):
            self._platform_schedule = None
        elif self._platform_schedule is None:
            self._platform_schedule = _RetrySchedule(time.monotonic() + backoff(0))
        elif time.monotonic() >= self._platform_schedule.due:
            self._platform_schedule.count_attempt()
            await run_in_thread(self._platform.restore, _log.info)
