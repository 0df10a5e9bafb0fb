"""Who gets which worker: first come, first served, one event in flight per worker.

Waiting is bounded by the trigger's `workerAvailabilityTimeoutMilliseconds`, as in Nuclio
(pkg/processor/worker/allocator.go).
"""

import asyncio
import math
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from . import wire
from .config import ProcessorConfig, Trigger
from .endings import Trouble
from .exchange import Exchange, Outcome
from .large_replies import ReplyMemory
from .lifecycle import Worker
from .logs import Log
from .loop import Loop
from .shared import Payload
from .starter import Starter

Give = Callable[[Optional[Worker], float], None]


class Waiter(NamedTuple):
    """Somebody in the queue for a worker, since `began` until `deadline` (`time.monotonic`)."""

    give: Give
    began: float
    deadline: float

    def end(self, worker: Optional[Worker]) -> None:
        """End the wait."""
        self.give(worker, time.monotonic() - self.began)


class Common(NamedTuple):
    """What all pools of a processor share.

    `on_facts` gets what a new process tells of how it sees the machine.
    """

    config: ProcessorConfig
    log: Log
    loop: Loop
    starter: Starter
    on_facts: Callable[[Dict[str, Any]], None]
    reply_memory: ReplyMemory


class Pool:
    """The workers of one trigger, or of those that share them; `trigger` is the first of these.

    `numbers` are the workers' ids.
    """

    def __init__(self, common: Common, trigger: Trigger, numbers: Sequence[int]) -> None:
        self.config = common.config
        self.log = common.log
        self.loop = common.loop
        self.starter = common.starter
        self.worker_started = common.on_facts
        self.reply_memory = common.reply_memory
        self.trigger = trigger
        self.workers = [Worker(self, number) for number in numbers]
        self.was_ready = False
        self.stopping = False
        self._idle: Deque[Worker] = deque()
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

    def take(self) -> Optional[Worker]:
        """The worker that has been idle longest, or None."""
        while self._idle:
            worker = self._idle.popleft()
            if worker.state == "ready":
                return worker
        return None

    def queue(self, timeout: float, give: Give, first: bool = False) -> None:
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

    def dispatch_again(self, meta: wire.Encoded, body: Payload, exchange: Exchange) -> None:
        """Find another worker for an event whose worker ended before it had read it."""

        def give(worker: Optional[Worker], _waited: float) -> None:
            if worker is not None:
                worker.dispatch(meta, body, exchange)
            else:
                exchange.finish(Outcome(503, error="no worker was there for this event in time"))

        worker = self.take()
        if worker is not None:
            give(worker, 0.0)
        else:
            self.queue(max(self.trigger.availability_timeout, 1.0), give, first=True)

    def release(self, worker: Worker) -> None:
        """The worker is idle now: it goes to who has waited longest."""
        if self._waiters:
            self._waiters.popleft().end(worker)
        else:
            self._idle.append(worker)

    def withdraw(self, worker: Worker) -> None:
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

    def trouble(self) -> Optional[Trouble]:
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
