"""Pools of workers: one for each trigger, or for each group of triggers that shares one.

Events get workers first come, first served, and each worker has one event at a time. Waiting is
limited by the trigger's `workerAvailabilityTimeoutMilliseconds`, as in Nuclio
(pkg/processor/worker/allocator.go).
"""

import asyncio
import math
import signal
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from .. import wire
from ..config import ProcessorConfig, TriggerConfig
from ..event_loop import EventLoop
from ..logs import READY_MESSAGE, Log
from .large_replies import ReplyMemory
from .launch import worker_environment
from .pending_event import EventResult, PendingEvent
from .shared_memory import Payload
from .spawner import Spawner
from .worker_failure import WorkerFailure
from .worker_handle import WorkerHandle

WorkerCallback = Callable[[Optional[WorkerHandle], float], None]


class Waiter(NamedTuple):
    """Somebody in the queue for a worker, since `began` until `deadline` (`time.monotonic`)."""

    give: WorkerCallback
    began: float
    deadline: float

    def end(self, worker: Optional[WorkerHandle]) -> None:
        """End the wait."""
        self.give(worker, time.monotonic() - self.began)


class PoolContext(NamedTuple):
    """What all pools of a processor share.

    `on_facts` gets what a new process tells of how it sees the machine.
    """

    config: ProcessorConfig
    log: Log
    loop: EventLoop
    starter: Spawner
    on_facts: Callable[[Dict[str, Any]], None]
    reply_memory: ReplyMemory


class WorkerPool:
    """The workers of one trigger, or of those that share them; `trigger` is the first of these.

    `numbers` are the workers' ids.
    """

    def __init__(self, common: PoolContext, trigger: TriggerConfig, numbers: Sequence[int]) -> None:
        self.config = common.config
        self.log = common.log
        self.loop = common.loop
        self.starter = common.starter
        self.worker_started = common.on_facts
        self.reply_memory = common.reply_memory
        self.trigger = trigger
        self.workers = [WorkerHandle(self, number) for number in numbers]
        self.was_ready = False
        self.stopping = False
        self._idle: Deque[WorkerHandle] = deque()
        self._waiters: Deque[Waiter] = deque()
        self._alarm: Optional[asyncio.TimerHandle] = None
        self._alarm_at = math.inf
        self._last_failure = ""
        self._on_ready: List[Callable[[], object]] = []

    def start(self) -> None:
        """Start every worker; returns at once."""
        for worker in self.workers:
            worker.start()

    async def stop(self, timeout: float) -> None:
        """End every worker: termination callback first, and the kill after `timeout` seconds."""
        self.stopping = True
        while self._waiters:
            self._waiters.popleft().end(None)
        await asyncio.gather(*[worker.stop(timeout) for worker in self.workers])

    def drain(self) -> None:
        """Tell every worker that another processor takes over."""
        for worker in self.workers:
            worker.drain()

    def kill(self) -> None:
        """End every worker now."""
        self.stopping = True
        for worker in self.workers:
            worker.kill()

    def take(self) -> Optional[WorkerHandle]:
        """The worker that has been idle longest, or None."""
        while self._idle:
            worker = self._idle.popleft()
            if worker.state == "ready":
                return worker
        return None

    def queue(self, timeout: float, give: WorkerCallback, first: bool = False) -> None:
        """Call `give` with the next worker that becomes idle, or with None after the timeout.

        `timeout` is in seconds, as is the second argument of `give`: how long the wait was.
        """
        now = time.monotonic()
        waiter = Waiter(give, now, now + timeout)
        if timeout <= 0 or self.stopping:
            waiter.end(None)
            return
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        if waiter.deadline < self._alarm_at:
            self._set_alarm(waiter.deadline)

    @property
    def waiting(self) -> int:
        """How many wait for a worker."""
        return len(self._waiters)

    # One timer serves all who wait, since most get a worker long before it fires.

    def _set_alarm(self, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self.loop.call_later(max(0.0, deadline - time.monotonic()), self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._alarm_at = math.inf
        now = time.monotonic()
        over = [waiter for waiter in self._waiters if waiter.deadline <= now]
        self._waiters = deque(waiter for waiter in self._waiters if waiter.deadline > now)
        if self._waiters:
            self._set_alarm(min(waiter.deadline for waiter in self._waiters))
        for waiter in over:
            waiter.end(None)

    def dispatch_again(self, meta: wire.EncodedMeta, body: Payload, exchange: PendingEvent) -> None:
        """Find another worker for an event whose worker ended before it had read it."""

        def give(worker: Optional[WorkerHandle], _waited: float) -> None:
            if worker is not None:
                worker.dispatch(meta, body, exchange)
            else:
                exchange.finish(
                    EventResult(503, error="no worker was there for this event in time")
                )

        worker = self.take()
        if worker is not None:
            give(worker, 0.0)
        else:
            self.queue(max(self.trigger.availability_timeout, 1.0), give, first=True)

    def release(self, worker: WorkerHandle) -> None:
        """The worker is idle now: it goes to who has waited longest."""
        if self._waiters:
            self._waiters.popleft().end(worker)
        else:
            self._idle.append(worker)

    def withdraw(self, worker: WorkerHandle) -> None:
        """The worker can take no events any more."""
        if worker in self._idle:
            self._idle.remove(worker)

    @property
    def serving(self) -> bool:
        """Whether any worker takes events now, or will when it is done with its own."""
        return any(worker.state in ("ready", "busy") for worker in self.workers)

    @property
    def idle(self) -> int:
        """How many workers wait for an event."""
        return len(self._idle)

    def state(self) -> str:
        """`starting`, `ready` or `unhealthy`.

        Until all workers were ready once, one that failed makes the pool unhealthy; afterwards the
        pool serves as long as any of them does.
        """
        if self.was_ready and self.serving:
            return "ready"
        if any(worker.state == "unhealthy" for worker in self.workers):
            return "unhealthy"
        return "starting"

    def trouble(self) -> Optional[WorkerFailure]:
        """Why the pool, or a worker of it, is not ready: the first worker's own words."""
        for worker in self.workers:
            if worker.state == "unhealthy" or (worker.trouble and self.state() != "ready"):
                return worker.trouble
        return None

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Call back once, when all workers have been ready."""
        if self.was_ready:
            callback()
        else:
            self._on_ready.append(callback)

    def worker_ready(self) -> None:
        """A worker finished init_context."""
        if self.was_ready or not all(w.state in ("ready", "busy") for w in self.workers):
            return
        self.was_ready = True
        for callback in self._on_ready:
            callback()
        self._on_ready = []

    def worker_failed(self) -> None:
        """A worker did not become ready: where none is left, nobody need wait for one."""
        while self._waiters and self.state() == "unhealthy":
            self._waiters.popleft().end(None)

    def first_seen(self, failure: str) -> bool:
        """Whether this failure to start is a new one: it is told whole once, not at every try."""
        new = failure != self._last_failure
        self._last_failure = failure
        return new

    async def reload(self, restart: bool) -> Dict[str, str]:
        """Bring new code into every worker: `ok` or the traceback, by worker id.

        In place, all at the same time, keeping `context.user_data`; or, with `restart`, by ending
        the workers one after the other.
        """
        names = [worker.name for worker in self.workers]
        if restart:
            answers = [await worker.restart() for worker in self.workers]
        else:
            answers = list(await asyncio.gather(*[w.reload() for w in self.workers]))
        return dict(zip(names, answers))  # noqa: B905 - zip has no strict in 3.6


class WorkerPools:
    """See the module. Workers are numbered through all pools, those of the http trigger first."""

    def __init__(self, config: ProcessorConfig, log: Log, loop: EventLoop) -> None:
        self.warnings: List[str] = []
        self.mount = "none"
        env = worker_environment(config, config.num_workers)
        self.starter = Spawner(config, env, log, self._on_facts, loop)
        common = PoolContext(config, log, loop, self.starter, self._on_facts, ReplyMemory())
        self._reloading = asyncio.Lock()
        self._log = log
        self._loop = loop
        self._pools: List[WorkerPool] = []
        self._by_trigger: Dict[str, WorkerPool] = {}
        first = 0
        for shared in config.pools:
            end = first + max(trigger.num_workers for trigger in shared)
            pool = WorkerPool(common, shared[0], range(first, end))
            self._pools.append(pool)
            for trigger in shared:
                self._by_trigger[trigger.name] = pool
            first = end

    def of(self, trigger: TriggerConfig) -> WorkerPool:
        """The pool that serves the trigger."""
        return self._by_trigger[trigger.name]

    @property
    def workers(self) -> List[WorkerHandle]:
        """The workers of all pools, by number."""
        return [worker for pool in self._pools for worker in pool.workers]

    @property
    def waiting(self) -> int:
        """How many events wait for a worker."""
        return sum(pool.waiting for pool in self._pools)

    def start(self) -> None:
        """Start every worker; returns at once."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self.starter.open()
        self.when_ready(self._say_ready)
        for pool in self._pools:
            pool.start()

    async def stop(self, timeout: float) -> None:
        """End every worker: termination callback first, and the kill after `timeout` seconds."""
        for pool in self._pools:
            pool.stopping = True
        self.starter.stop()
        await asyncio.gather(*[pool.stop(timeout) for pool in self._pools])

    def drain(self) -> None:
        """Tell every worker that another processor takes over."""
        for pool in self._pools:
            pool.drain()

    def kill(self) -> None:
        """End every worker now."""
        for pool in self._pools:
            pool.kill()
        self.starter.stop()

    def state(self) -> str:
        """`starting`, `ready` or `unhealthy`: the function is as well as its worst pool."""
        states = [pool.state() for pool in self._pools]
        return next((one for one in ("unhealthy", "starting") if one in states), "ready")

    def trouble(self) -> Optional[WorkerFailure]:
        """Why the function, or a worker of it, is not ready."""
        found = [pool.trouble() for pool in self._pools]
        return next((trouble for trouble in found if trouble is not None), None)

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Call back once, when the workers of all pools have been ready."""

        def check() -> None:
            if all(pool.was_ready for pool in self._pools):
                callback()

        waited_for = [pool for pool in self._pools if not pool.was_ready]
        for pool in waited_for:
            pool.when_ready(check)
        if not waited_for:
            callback()

    async def reload(self, restart: bool) -> Dict[str, str]:
        """Bring new code into every worker: `ok` or the traceback, by worker id.

        In place, all at the same time, keeping `context.user_data`; or, with `restart`, by ending
        the workers one after the other.
        """
        async with self._reloading:
            self.starter.renew()
            if restart:
                answers = [await pool.reload(restart) for pool in self._pools]
            else:
                answers = list(await asyncio.gather(*[p.reload(restart) for p in self._pools]))
        return {name: answer for one in answers for name, answer in one.items()}

    def _say_ready(self) -> None:
        self._log.info(READY_MESSAGE, workers=len(self.workers), mount=self.mount)

    def _on_facts(self, facts: Dict[str, Any]) -> None:
        """A process told how it sees the machine; a warning is said once, not once per worker."""
        self.mount = str(facts.get("mount", "none"))
        for warning in facts.get("warnings", []):
            if warning not in self.warnings:
                self.warnings.append(warning)
                self._log.warn(warning)

    def _reap(self) -> None:
        found = [worker.process for worker in self.workers]
        processes = [process for process in found if process is not None]
        for process in processes:
            process.reap()
        pids = {process.pid for process in processes}
        self.starter.reap(lambda pid: pid in pids)
