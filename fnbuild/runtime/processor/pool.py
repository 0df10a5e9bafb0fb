"""A pool of workers: one for each trigger, or for each group of triggers that shares one.

Events get workers first come, first served, and each worker has one event at a time. Waiting is
limited by the trigger's `workerAvailabilityTimeoutMilliseconds`, as in Nuclio
(pkg/processor/worker/allocator.go). It counts from the end of a wake if the workers are asleep.
"""

import asyncio
import time
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from .. import wire
from ..config import ProcessorConfig, TriggerConfig
from ..logs import Log
from .devices import device_variables
from .large_replies import ReplyMemory
from .pending_event import EventResult, PendingEvent
from .shared_memory import Payload
from .spawner import Spawner
from .worker_failure import WorkerFailure
from .worker_handle import WorkerHandle
from .worker_owner import WorkerOwner

WorkerCallback = Callable[[Optional[WorkerHandle], float], None]


class Waiter:
    """A callback that waits for a worker; `timer` ends the wait without one.

    `timeout` is its limit in seconds.
    """

    def __init__(self, callback: WorkerCallback, timeout: float) -> None:
        self.timeout = timeout
        self.timer: Optional[asyncio.TimerHandle] = None
        self._callback = callback
        self._started = time.monotonic()

    def end(self, worker: Optional[WorkerHandle]) -> None:
        """End the wait."""
        if self.timer is not None:
            self.timer.cancel()
        self._callback(worker, time.monotonic() - self._started)


class PoolContext(NamedTuple):
    """The values that all pools of a processor share. `devices` are the GPUs for their workers.

    `on_started` receives the report of a new process about its setup. `on_ready` is called when
    all workers of a pool have been ready, `on_demand` when an event waits for a sleeping pool, and
    `on_awake` when a pool is awake again.
    """

    config: ProcessorConfig
    devices: List[str]
    log: Log
    loop: asyncio.AbstractEventLoop
    spawner: Spawner
    on_started: Callable[[wire.Meta], None]
    on_ready: Callable[[], None]
    on_demand: Callable[[], None]
    on_awake: Callable[[], None]
    reply_memory: ReplyMemory


class WorkerPool(WorkerOwner[WorkerHandle]):
    """The workers of one trigger or of several, of which `trigger` is the first.

    `numbers` are the workers' ids. `sleeping` is True from the beginning of a sleep to the first
    ready worker of the next wake, whose time is `woken_at`. While the pool is `holding`, it is
    about to sleep, and new events wait until the next wake. `wake_refusal` is the reason why the
    workers may not be loaded. Triggers set `last_request` to the time of a request or of its reply.
    All times are those of `time.monotonic`.
    """

    def __init__(
        self, context: PoolContext, trigger: TriggerConfig, numbers: Sequence[int]
    ) -> None:
        self.config = context.config
        self._devices = context.devices
        self.log = context.log
        self.loop = context.loop
        self.spawner = context.spawner
        self.on_started = context.on_started
        self.reply_memory = context.reply_memory
        self.trigger = trigger
        self.workers = [WorkerHandle(self, number) for number in numbers]
        self.was_ready = False
        self.stopping = False
        self.sleeping = self.holding = False
        self.wake_refusal: Optional[WorkerFailure] = None
        self.woken_at = self.last_request = 0.0
        self._idle: Deque[WorkerHandle] = deque()
        self._waiters: Deque[Waiter] = deque()
        self._held: Deque[Waiter] = deque()
        self._last_failure = ""
        # See wire.READY.
        self.declared_tensors: wire.Meta = {}
        self._on_ready = context.on_ready
        self._on_demand = context.on_demand
        self._on_awake = context.on_awake

    def device_of(self, number: int) -> Dict[str, str]:
        return device_variables(self.config.workers_per_device, self._devices, number)

    async def stop(self, timeout: float) -> None:
        """End every worker with its termination callback; kill it after `timeout` seconds."""
        self.stopping = True
        self._end_waits()
        await asyncio.gather(*[worker.stop(timeout) for worker in self.workers])

    def fall_asleep(self, offload: bool) -> Awaitable[Any]:
        """Release the memory of every worker; see `SleepingWorkers`."""
        self.sleeping = True
        self._stop_holding()
        if self._waiters:
            self._on_demand()
        timeout = self.trigger.termination_timeout
        return asyncio.gather(*[worker.fall_asleep(offload, timeout) for worker in self.workers])

    def begin_asleep(self) -> None:
        """Be asleep before the first start, and count as ready."""
        self.sleeping = self.was_ready = True
        for worker in self.workers:
            worker.state = "asleep"
        if self._waiters:
            self._on_demand()
        self._on_ready()

    def hold(self, everything: bool) -> None:
        """Let new events wait until the next wake, and with `everything` those that wait now."""
        self.holding = True
        while everything and self._waiters:
            waiter = self._waiters.popleft()
            if waiter.timer is not None:
                waiter.timer.cancel()
            self._held.append(waiter)

    def resume(self) -> None:
        """Handle the events that `hold` let wait."""
        held = list(self._held)
        self._stop_holding()
        for waiter in held:
            self._limit_wait(waiter)
        while self._waiters and self._idle:
            worker = self.acquire()
            if worker is not None:
                self.release(worker)

    def _stop_holding(self) -> None:
        self.holding = False
        self._waiters.extend(self._held)
        self._held.clear()

    def refuse_wake(self, refusal: Optional[WorkerFailure]) -> None:
        """Set `wake_refusal`, and end the waits with it."""
        self.wake_refusal = refusal
        if refusal is not None:
            self._end_waits()

    def _end_waits(self) -> None:
        self._stop_holding()
        while self._waiters:
            self._waiters.popleft().end(None)

    def demand(self) -> None:
        """Wake the workers if they are asleep, for an event that will soon need one."""
        if self.sleeping:
            self._on_demand()

    def acquire(self) -> Optional[WorkerHandle]:
        """Return the worker that has been idle longest, or None."""
        while self._idle and not self.holding:
            worker = self._idle.popleft()
            if worker.state == "ready":
                return worker
        return None

    def wait_for_worker(
        self, timeout: float, callback: WorkerCallback, first: bool = False
    ) -> None:
        """Call `callback` with the next idle worker, or with None after the timeout.

        Its second argument is the time waited. Both times are in seconds.
        """
        waiter = Waiter(callback, timeout)
        if self.stopping or (timeout <= 0 and not self.sleeping and not self.holding):
            waiter.end(None)
            return
        if self.holding and not first:
            self._held.append(waiter)
            return
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        if self.sleeping:
            self._on_demand()
        else:
            self._limit_wait(waiter)

    def _limit_wait(self, waiter: Waiter) -> None:
        waiter.timer = self.loop.call_later(max(0.0, waiter.timeout), self._end_wait, waiter)

    def _end_wait(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)
        waiter.end(None)

    @property
    def waiting(self) -> int:
        """The number of events that wait for a worker."""
        return len(self._waiters) + len(self._held)

    @property
    def in_hand(self) -> bool:
        """True if a worker is busy, or if events wait that `hold` does not concern."""
        return bool(self._waiters) or any(worker.state == "busy" for worker in self.workers)

    def redispatch(self, meta: wire.Meta, body: Payload, event: PendingEvent) -> None:
        def deliver(worker: Optional[WorkerHandle], _waited: float) -> None:
            if worker is not None:
                worker.dispatch(meta, body, event)
            else:
                event.finish(
                    EventResult(503, error="no worker became available for this event in time")
                )

        worker = self.acquire()
        if worker is not None:
            deliver(worker, 0.0)
        else:
            self.wait_for_worker(max(self.trigger.availability_timeout, 1.0), deliver, first=True)

    def release(self, worker: WorkerHandle) -> None:
        if self._waiters:
            self._waiters.popleft().end(worker)
        else:
            self._idle.append(worker)

    def remove_idle(self, worker: WorkerHandle) -> None:
        if worker in self._idle:
            self._idle.remove(worker)

    @property
    def serving(self) -> bool:
        """True if a worker is ready or busy."""
        return any(worker.state in ("ready", "busy") for worker in self.workers)

    @property
    def idle(self) -> int:
        """The number of idle workers."""
        return len(self._idle)

    def state(self) -> str:
        """Return `starting`, `ready` or `unhealthy`.

        Until all workers were ready once, a failed one makes the pool unhealthy, and so does
        `wake_refusal`. Afterwards the
        pool is ready as long as one of them serves, and while it sleeps or wakes; it is unhealthy
        once all have failed.
        """
        if self.was_ready:
            if self.serving or (self.sleeping and self._may_wake()):
                return "ready"
            if any(worker.state in ("starting", "restarting") for worker in self.workers):
                return "starting"
        elif self.wake_refusal is not None:
            return "unhealthy"
        if any(worker.state == "unhealthy" for worker in self.workers):
            return "unhealthy"
        return "starting"

    def _may_wake(self) -> bool:
        """Return False if the wake has failed for every worker."""
        return any(worker.state != "unhealthy" for worker in self.workers)

    def failure(self) -> Optional[WorkerFailure]:
        """Return `wake_refusal` or the first failure of a worker that is not ready, if any."""
        if self.wake_refusal is not None:
            return self.wake_refusal
        for worker in self.workers:
            if worker.state == "unhealthy" or (worker.failure and self.state() != "ready"):
                return worker.failure
        return None

    def worker_ready(self, declared_tensors: wire.Meta) -> None:
        self.declared_tensors = declared_tensors
        if self.sleeping:
            self.sleeping = False
            self.woken_at = time.monotonic()
            for waiter in self._waiters:
                self._limit_wait(waiter)
            self._on_awake()
        if not self.was_ready and all(w.state in ("ready", "busy") for w in self.workers):
            self.was_ready = True
            self._on_ready()

    def worker_failed(self) -> None:
        # Without a serving worker, waiting is pointless.
        while self._waiters and self.state() == "unhealthy":
            self._waiters.popleft().end(None)

    def is_new_failure(self, text: str) -> bool:
        # A failure is logged in full once, not at every attempt.
        new = text != self._last_failure
        self._last_failure = text
        return new
