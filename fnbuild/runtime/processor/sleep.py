"""Sleep and wake: workers that have nothing to do release their memory, and the next request waits.

At the level `exit` their processes end, after their termination callbacks; the template that they
are forked from stays. At the level `offload` the handler's `sleep(context)` releases memory and
`wake(context)` acquires it again. A processor's workers sleep and wake together. Its listeners, its
queue and its metrics stay.

The workers of a member of a GPU group load, at the start and when they wake, once there is room in
the group (`groups.member`); until then they are `waiting`.
"""

import abc
import asyncio
import time
from typing import Any, Awaitable, Callable, Dict, Optional

from ..config import SleepConfig
from ..groups.group import FAILING, WAITING
from ..groups.member import GroupMember, MemoryUser
from ..logs import Log
from .metrics import SingleValue
from .worker_failure import WorkerFailure

AWAKE = "awake"
FALLING_ASLEEP = "falling asleep"
ASLEEP = "asleep"
WAKING = "waking"

# Seconds after which an attempt to fall asleep is repeated that something prevented, and a start
# that a GPU group had no room for.
_RETRY = 1.0
_START_RETRY = 5.0
# Seconds in which a member of a GPU group answers waiting requests before it sleeps for others.
_LONGEST_RELEASE = 10.0
_POLL_INTERVAL = 0.02


class SleepingWorkers(abc.ABC):
    """The workers of a processor, as its sleep controller uses them."""

    started_at = 0.0
    """The time (`time.monotonic`) of their first start, 0 before it."""

    @abc.abstractmethod
    def last_request(self) -> float:
        """Return the time of the last request or reply; runs of cron triggers do not count."""

    @abc.abstractmethod
    def sleep_obstacle(self) -> str:
        """Return the reason why the workers cannot fall asleep now, or ""."""

    @abc.abstractmethod
    def fall_asleep(self, offload: bool) -> Awaitable[Any]:
        """Begin to release the workers' memory; from the call on, events wait.

        The result is awaited for the end.
        """

    @abc.abstractmethod
    def begin_asleep(self) -> None:
        """Be asleep before the first start, and count as ready."""

    @abc.abstractmethod
    def used_memory(self) -> Optional[int]:
        """Return the bytes that the workers use, on a GPU if there is one; None if unknown."""

    @abc.abstractmethod
    def hold(self, everything: bool) -> None:
        """Let new events wait until the next wake, and with `everything` those that wait now."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Handle the events that `hold` let wait."""

    @abc.abstractmethod
    def refuse_wake(self, refusal: Optional[WorkerFailure]) -> None:
        """End the waits with a reason why the workers cannot be loaded; None removes the reason."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Start the workers, at first or again; events wait until one of each pool is ready."""

    @abc.abstractmethod
    def state(self) -> str:
        """Return `unhealthy` if a wake has failed; further attempts follow."""

    @abc.abstractmethod
    def failure(self) -> Optional[WorkerFailure]:
        """Return the reason of a failed wake."""


class SleepController(MemoryUser):
    """Puts the workers of a processor to sleep, and wakes them.

    `state` is `awake`, `falling asleep`, `asleep`, `waiting` or `waking`, `since` its Unix time. A
    failed wake stays `waking`, since the workers go on trying. `wake_seconds` is the time of the
    last wake, or of the first start. `requests_in_hand` returns the number of requests without
    complete replies.
    """

    def __init__(
        self,
        config: SleepConfig,
        workers: SleepingWorkers,
        requests_in_hand: Callable[[], int],
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.state = AWAKE
        self.since = time.time()
        self.wake_seconds = 0.0
        self.wakes = SingleValue()
        self._config = config
        self._workers = workers
        self._requests_in_hand = requests_in_hand
        self._log = log
        self._loop = loop
        self._group: Optional[GroupMember] = None
        self._started = False
        self._demanded = False
        self._release_began = 0.0
        self._refusal = ""
        self._changed = time.monotonic()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._task: "Optional[asyncio.Task[None]]" = None

    def join(self, group: GroupMember) -> None:
        """Load the workers only in the turns of a GPU group, from the start on."""
        self._group = group

    def begin(self) -> None:
        """Start the workers, in a GPU group as soon as there is room.

        If the same revision has been loaded before, its load proves nothing, and a member begins
        asleep.
        """
        if self._group is None:
            self._workers.wake()
        elif self._group.has_loaded_before() and not self._group.config.permanent:
            self._enter(ASLEEP)
            self._workers.begin_asleep()
            self._group.start(self)
        else:
            self._enter(WAITING)
            self._group.start(self)

    def start(self) -> None:
        """Allow to fall asleep: all workers have been ready, or begin asleep."""
        self._started = True
        if self.state != ASLEEP:
            self._enter(AWAKE)
            self.wake_seconds = self._changed - self._workers.started_at
            self._await_idleness()

    def close(self) -> None:
        """Stay awake, or wake a last time: the processor is about to end.

        A member of a GPU group still falls asleep for others.
        """
        self._started = False
        if self._timer is not None:
            self._timer.cancel()

    def to_dict(self) -> Dict[str, Any]:
        """Return the entry in the status."""
        return {
            "state": self.state,
            "since": self.since,
            "wake_seconds": round(self.wake_seconds, 3),
            "idle_timeout": self._config.idle_timeout,
            "level": self._config.level,
            "group": None if self._group is None else self._group.to_dict(),
        }

    def begin_sleep(self) -> str:
        """Begin to fall asleep; return the reason why that is not possible, or ""."""
        if self.state in (FALLING_ASLEEP, ASLEEP):
            return ""
        obstacle = self._obstacle()
        if not obstacle:
            self._fall_asleep()
        return obstacle

    def _fall_asleep(self) -> None:
        self._enter(FALLING_ASLEEP)
        # Called here and not in the task: a worker that is starting must not become ready before.
        sleeping = self._workers.fall_asleep(self._config.offload)
        self._task = self._loop.create_task(self._end_falling_asleep(sleeping))

    def wake(self) -> None:
        """Begin to wake. Has no effect on an awake function."""
        if self.state == FALLING_ASLEEP:
            self._demanded = True
        elif self.state == ASLEEP:
            self._demanded = False
            self._workers.refuse_wake(None)
            if self._group is not None:
                self._enter(WAITING)
            else:
                self.grant()

    def on_awake(self) -> None:
        """Handle that every pool has a ready worker."""
        if self.state != WAKING:
            return
        self.wakes.value += 1
        self.wake_seconds = time.monotonic() - self._changed
        self._enter(AWAKE)
        self._log.info("Awake after %.3g s" % self.wake_seconds)
        self._await_idleness()

    async def sleep(self, wait: float) -> str:
        """Fall asleep as soon as no request is in hand; return the reason if that fails.

        `wait` limits the seconds until then.
        """
        limit = time.monotonic() + wait
        while True:
            obstacle = self.begin_sleep()
            if not obstacle or time.monotonic() > limit:
                break
            await asyncio.sleep(_POLL_INTERVAL)
        while self.state == FALLING_ASLEEP:
            await asyncio.sleep(_POLL_INTERVAL)
        return obstacle

    async def wake_and_wait(self) -> Optional[WorkerFailure]:
        """Wake; return once a worker of each pool is ready, or with the reason of a failure."""
        self.wake()
        while self.state != AWAKE:
            if self.state == ASLEEP:
                return self._workers.failure()
            if self.state == WAKING and self._workers.state() == "unhealthy":
                return self._workers.failure()
            await asyncio.sleep(_POLL_INTERVAL)
        return None

    # The memory user of a GPU group.

    def group_state(self) -> str:
        failing = self.state in (AWAKE, WAKING) and self._workers.state() == "unhealthy"
        return FAILING if failing else self.state

    def is_busy(self) -> bool:
        # A failing function answers at once.
        failing = self._workers.state() == "unhealthy"
        return not failing and bool(self._requests_in_hand() or self._workers.sleep_obstacle())

    def last_use(self) -> float:
        return max(self._workers.last_request(), self._changed)

    def measure_memory(self) -> Optional[int]:
        return self._workers.used_memory()

    def grant(self) -> None:
        self._enter(WAKING)
        self._refusal = ""
        self._release_began = 0.0
        self._workers.refuse_wake(None)
        self._workers.wake()

    def refuse(self, reason: str) -> None:
        if self._group is None:
            return
        if reason != self._refusal:
            self._log.error("Not loaded: " + reason)
        self._refusal = reason
        self._workers.refuse_wake(WorkerFailure.from_reason(reason))
        if self._started:
            self._enter(ASLEEP)
        else:
            # A start, which is tried again.
            self._loop.call_later(_START_RETRY, self._group.update)

    def release(self) -> None:
        if self.group_state() == FAILING:
            self._fall_asleep()
            return
        if self.is_busy():
            now = time.monotonic()
            self._release_began = self._release_began or now
            self._workers.hold(now - self._release_began > _LONGEST_RELEASE)
        if not self._workers.sleep_obstacle():
            self._fall_asleep()

    def keep(self) -> None:
        self._release_began = 0.0
        self._workers.resume()

    def _obstacle(self) -> str:
        if self.state in (WAITING, WAKING):
            return "the function is " + self.state
        if self._group is not None and self._group.config.permanent:
            return "it is a permanent member of the GPU group " + self._group.config.name
        if not self._started:
            return "the function is starting or stopping"
        obstacle = self._workers.sleep_obstacle()
        count = self._requests_in_hand()
        if not obstacle and count:
            obstacle = "%d %s in hand" % (count, "request is" if count == 1 else "requests are")
        return obstacle

    async def _end_falling_asleep(self, sleeping: Awaitable[Any]) -> None:
        await sleeping
        self._enter(ASLEEP)
        self._log.info("Asleep; the next request wakes the function")
        if self._demanded:
            self.wake()

    def _enter(self, state: str) -> None:
        self.state = state
        self.since = time.time()
        self._changed = time.monotonic()
        if self._group is not None:
            # Later, since the group may have caused the change.
            self._loop.call_soon(self._group.update)

    def _await_idleness(self, wait: Optional[float] = None) -> None:
        """Check after `wait` seconds, by default the idle timeout, whether it has passed."""
        timeout = self._config.idle_timeout
        permanent = self._group is not None and self._group.config.permanent
        if timeout is None or permanent or not self._started:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(timeout if wait is None else wait, self._check, timeout)

    def _check(self, timeout: float) -> None:
        if self.state != AWAKE:
            # The end of the next wake starts the timer again.
            return
        idle = time.monotonic() - self.last_use()
        if idle < timeout:
            self._await_idleness(timeout - idle)
        elif self.begin_sleep():
            self._await_idleness(min(timeout, _RETRY))
