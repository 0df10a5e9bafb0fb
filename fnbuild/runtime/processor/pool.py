"""Pools of workers: one for each trigger, or for each group of triggers that shares one.

Events get workers first come, first served, and each worker has one event at a time. Waiting is
limited by the trigger's `workerAvailabilityTimeoutMilliseconds`, as in Nuclio
(pkg/processor/worker/allocator.go).
"""

import asyncio
import os
import signal
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import wire
from ..config import ProcessorConfig, TriggerConfig
from ..logs import READY_MESSAGE, Log
from .children import ChildProcess
from .large_replies import ReplyMemory
from .launch import worker_environment
from .model import ModelDownload
from .pending_event import EventResult, PendingEvent
from .shared_memory import Payload
from .spawner import Spawner
from .worker_failure import WorkerFailure
from .worker_handle import WorkerHandle, WorkerOwner

WorkerCallback = Callable[[Optional[WorkerHandle], float], None]


class Waiter:
    """A callback that waits for a worker; `timer` ends the wait without one."""

    def __init__(self, callback: WorkerCallback) -> None:
        self.timer: Optional[asyncio.TimerHandle] = None
        self._callback = callback
        self._started = time.monotonic()

    def end(self, worker: Optional[WorkerHandle]) -> None:
        """End the wait."""
        if self.timer is not None:
            self.timer.cancel()
        self._callback(worker, time.monotonic() - self._started)


class PoolContext(NamedTuple):
    """The values that all pools of a processor share.

    `on_started` receives the report of a new process about its setup. `on_ready` is called when
    all workers of a pool have been ready.
    """

    config: ProcessorConfig
    log: Log
    loop: asyncio.AbstractEventLoop
    spawner: Spawner
    on_started: Callable[[wire.Meta], None]
    on_ready: Callable[[], None]
    reply_memory: ReplyMemory


class WorkerPool(WorkerOwner):
    """The workers of one trigger or of several, of which `trigger` is the first.

    `numbers` are the workers' ids.
    """

    def __init__(
        self, context: PoolContext, trigger: TriggerConfig, numbers: Sequence[int]
    ) -> None:
        self.config = context.config
        self.log = context.log
        self.loop = context.loop
        self.spawner = context.spawner
        self.on_started = context.on_started
        self.reply_memory = context.reply_memory
        self.trigger = trigger
        self.workers = [WorkerHandle(self, number) for number in numbers]
        self.was_ready = False
        self.stopping = False
        self._idle: Deque[WorkerHandle] = deque()
        self._waiters: Deque[Waiter] = deque()
        self._last_failure = ""
        # See wire.READY.
        self.declared_tensors: wire.Meta = {}
        self._on_ready = context.on_ready

    async def stop(self, timeout: float) -> None:
        """End every worker with its termination callback; kill it after `timeout` seconds."""
        self.stopping = True
        while self._waiters:
            self._waiters.popleft().end(None)
        await asyncio.gather(*[worker.stop(timeout) for worker in self.workers])

    def acquire(self) -> Optional[WorkerHandle]:
        """Return the worker that has been idle longest, or None."""
        while self._idle:
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
        waiter = Waiter(callback)
        if timeout <= 0 or self.stopping:
            waiter.end(None)
            return
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        waiter.timer = self.loop.call_later(timeout, self._end_wait, waiter)

    def _end_wait(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)
        waiter.end(None)

    @property
    def waiting(self) -> int:
        """The number of events that wait for a worker."""
        return len(self._waiters)

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

        Until all workers were ready once, a failed one makes the pool unhealthy. Afterwards the
        pool is ready as long as one of them serves.
        """
        if self.was_ready and self.serving:
            return "ready"
        if any(worker.state == "unhealthy" for worker in self.workers):
            return "unhealthy"
        return "starting"

    def failure(self) -> Optional[WorkerFailure]:
        """Return the first failure of a worker that is not ready, if any."""
        for worker in self.workers:
            if worker.state == "unhealthy" or (worker.failure and self.state() != "ready"):
                return worker.failure
        return None

    def worker_ready(self, declared_tensors: wire.Meta) -> None:
        self.declared_tensors = declared_tensors
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


class WorkerPools:
    """All pools. Workers are numbered across them, in the order of the triggers.

    Triggers with the same `allocator` share a pool, which has the workers of the largest.
    """

    def __init__(
        self,
        config: ProcessorConfig,
        triggers: Sequence[TriggerConfig],
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.warnings: List[str] = []
        self.mount = "none"
        groups = _group_by_allocator(triggers)
        sizes = [max(trigger.num_workers for trigger in group) for group in groups]
        env = worker_environment(config, sum(sizes))
        self._model = ModelDownload(dict(os.environ, **config.env), config.models, log, loop)
        self.spawner = Spawner(config, env, log, self._on_started, loop)
        context = PoolContext(
            config,
            log,
            loop,
            self.spawner,
            on_started=self._on_started,
            on_ready=self._call_if_ready,
            reply_memory=ReplyMemory(),
        )
        self._reloading = asyncio.Lock()
        self._ready_callbacks: List[Callable[[], object]] = []
        self._log = log
        self._loop = loop
        self._children: List[ChildProcess] = []
        self._pools: List[WorkerPool] = []
        self._pool_by_trigger: Dict[str, WorkerPool] = {}
        first = 0
        for group, size in zip(groups, sizes):  # noqa: B905 - zip has no strict in 3.6
            pool = WorkerPool(context, group[0], range(first, first + size))
            self._pools.append(pool)
            for trigger in group:
                self._pool_by_trigger[trigger.name] = pool
            first += size

    def pool_for(self, trigger: TriggerConfig) -> WorkerPool:
        """Return the pool of the trigger."""
        return self._pool_by_trigger[trigger.name]

    @property
    def workers(self) -> List[WorkerHandle]:
        """The workers of all pools in the order of their numbers."""
        return [worker for pool in self._pools for worker in pool.workers]

    @property
    def waiting(self) -> int:
        """The number of events that wait for a worker."""
        return sum(pool.waiting for pool in self._pools)

    def start(self) -> None:
        """Start every worker, once the model is on the disk, without waiting for it."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self.spawner.open()
        self.call_when_ready(self._log_ready)
        self._model.start(self._start_workers)

    def _start_workers(self) -> None:
        for worker in self.workers:
            worker.start()

    async def stop(self, timeout: float) -> None:
        """End every worker with its termination callback; kill it after `timeout` seconds."""
        self._model.stop()
        for pool in self._pools:
            pool.stopping = True
        self.spawner.stop()
        await asyncio.gather(*[pool.stop(timeout) for pool in self._pools])

    def run_drain_callbacks(self) -> None:
        """Run the drain callback of every worker after its current event."""
        for worker in self.workers:
            worker.run_drain_callback()

    def kill(self) -> None:
        """Kill every worker."""
        self._model.stop()
        for pool in self._pools:
            pool.stopping = True
        for worker in self.workers:
            worker.kill()
        self.spawner.stop()

    def add_child(self, child: ChildProcess) -> None:
        """Reap another child of this process."""
        self._children.append(child)

    def state(self) -> str:
        """Return the state of the worst pool: `starting`, `ready` or `unhealthy`."""
        if self._model.failure is not None:
            return "unhealthy"
        states = [pool.state() for pool in self._pools]
        return next((state for state in ("unhealthy", "starting") if state in states), "ready")

    def failure(self) -> Optional[WorkerFailure]:
        """Return the failure of the model's download, or the first of a worker, if any."""
        if self._model.failure is not None:
            return self._model.failure
        failures = [pool.failure() for pool in self._pools]
        return next((failure for failure in failures if failure is not None), None)

    def call_when_ready(self, callback: Callable[[], object]) -> None:
        """Call the callback once the workers of all pools have been ready."""
        self._ready_callbacks.append(callback)
        self._call_if_ready()

    def _call_if_ready(self) -> None:
        if all(pool.was_ready for pool in self._pools):
            callbacks, self._ready_callbacks = self._ready_callbacks, []
            for callback in callbacks:
                callback()

    async def reload(self, restart: bool) -> Dict[str, str]:
        """Load new code into every worker; return `ok` or the traceback by worker id.

        All workers reload at once and keep `context.user_data`. With `restart` they are replaced
        one after the other.
        """
        async with self._reloading:
            self.spawner.renew()
            if restart:
                outcomes = [await worker.restart() for worker in self.workers]
            else:
                outcomes = await asyncio.gather(*[worker.reload() for worker in self.workers])
        names = [worker.name for worker in self.workers]
        return dict(zip(names, outcomes))  # noqa: B905 - zip has no strict in 3.6

    def _log_ready(self) -> None:
        self._log.info(READY_MESSAGE, workers=len(self.workers), mount=self.mount)

    def _on_started(self, report: Dict[str, Any]) -> None:
        """Handle the report of a new process; each warning is logged once, not per worker."""
        self.mount = str(report.get("mount", "none"))
        for warning in report.get("warnings", []):
            if warning not in self.warnings:
                self.warnings.append(warning)
                self._log.warn(warning)

    def _reap(self) -> None:
        handles = [worker.process for worker in self.workers]
        processes = [process for process in handles if process is not None]
        for process in processes:
            process.reap()
        pids = {process.pid for process in processes}
        for child in self._children:
            child.reap()
            pids.add(child.pid)
        self.spawner.reap(lambda pid: pid in pids)


def _group_by_allocator(triggers: Sequence[TriggerConfig]) -> List[List[TriggerConfig]]:
    groups: Dict[Tuple[str, str], List[TriggerConfig]] = {}
    for trigger in triggers:
        key = ("named", trigger.allocator) if trigger.allocator else ("of", trigger.name)
        groups.setdefault(key, []).append(trigger)
    return list(groups.values())
