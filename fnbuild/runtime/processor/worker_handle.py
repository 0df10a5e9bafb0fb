"""A worker as the processor sees it: started, given events, timed, and restarted when it ends."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from .. import wire
from ..logs import LogRecord
from ..tracebacks import last_output
from .large_replies import LargeReply
from .launch import begin_message
from .pending_event import EventResult, PendingEvent, decode_record, log_record
from .shared_memory import Payload
from .spawner import ProcessRequester
from .worker_failure import Backoff, WorkerFailure, describe_exit, startup_failure, startup_timeout
from .worker_process import StackDump, WorkerProcess

if TYPE_CHECKING:
    from .pool import WorkerPool


Delivery = Tuple[PendingEvent, wire.EncodedMeta, Payload]


class EventTimer:
    """At most one event at a time. `expired` is called when one takes longer than `timeout`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: Optional[float],
        expired: Callable[[PendingEvent], None],
    ) -> None:
        self.exchange: Optional[PendingEvent] = None
        self._cargo: Optional[Delivery] = None
        self._loop = loop
        self._timeout = timeout
        self._expired = expired
        self._deadline = 0.0
        self._timer: Optional[asyncio.TimerHandle] = None

    def begin(self, exchange: PendingEvent, meta: wire.EncodedMeta, body: Payload) -> None:
        """The worker has the event from now on."""
        self.exchange = exchange
        self._cargo = (exchange, meta, body)
        if self._timeout is not None:
            self._deadline = self._loop.time() + self._timeout
            if self._timer is None:
                self._timer = self._loop.call_at(self._deadline, self._check)

    def end(self) -> Optional[Delivery]:
        """The worker is done with it, one way or another."""
        cargo, self._cargo, self.exchange = self._cargo, None, None
        return cargo

    def _check(self) -> None:
        # One timer, moved only when it fires: most events end long before.
        self._timer = None
        if self.exchange is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
        else:
            self._expired(self.exchange)


# A process that lived this long, or answered anything, was no failed start.
_STABLE_SECONDS = 10.0


class WorkerHandle(ProcessRequester):
    """`state`: starting, ready, busy, restarting (waiting for its back-off), unhealthy or stopped.

    `trouble` says why it is not ready, in the handler's own words when there are any.
    """

    def __init__(self, pool: "WorkerPool", number: int) -> None:
        self.name = str(number)
        self.state = "starting"
        self.trouble: Optional[WorkerFailure] = None
        self.restarts = 0
        self.process: Optional[WorkerProcess] = None
        self.flight = EventTimer(pool.loop, pool.config.event_timeout, self._expire)
        self._pool = pool
        self._log = pool.log
        self._loop = pool.loop
        self._backoff = Backoff()
        self._start_timer: Optional[asyncio.TimerHandle] = None
        self._init_timer: Optional[asyncio.TimerHandle] = None
        self._ready_at = 0.0
        self._failure: Optional[WorkerFailure] = None
        self._imported = False
        self._expired = False
        self._hang: Optional[StackDump] = None
        self._answers: List[asyncio.Future[str]] = []
        self._ended: List[asyncio.Future[None]] = []
        self._leaving = False
        self._large = LargeReply(pool.reply_memory)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def start(self) -> None:
        """Start a process; what goes wrong is told by `state` and `message`."""
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        self.state = "starting"
        self._failure = self._hang = None
        self._imported = self._expired = self._leaving = False
        self._ready_at = 0.0
        self._pool.starter.request(self)

    def process_given(self, process: WorkerProcess) -> None:
        """A process is there for it: begin."""
        self.process = process
        process.owner = self
        if self._leaving or self._pool.stopping:
            process.kill()
        trigger = self._pool.trigger
        process.send(
            wire.BEGIN, begin_message(trigger, self.name, self._log.threshold, trigger.max_reply)
        )
        limit = self._pool.config.readiness_timeout
        self._init_timer = self._loop.call_later(limit, self._init_hangs, limit)

    def process_refused(self, trouble: WorkerFailure) -> None:
        """There is none for it."""
        self._fail(trouble)
        self._restart_later()

    def dispatch(self, meta: wire.EncodedMeta, body: Payload, exchange: PendingEvent) -> None:
        """Give the worker an event; it must have been taken from the pool."""
        process = self.process
        if self.state != "ready" or process is None or not process.send(wire.EVENT, meta, body):
            if self.state == "ready":
                self.state = "restarting"
            self._pool.dispatch_again(meta, body, exchange)
            return
        self.state = "busy"
        self.flight.begin(exchange, meta, body)

    def _expire(self, exchange: PendingEvent) -> None:
        self._expired = True
        self.state = "restarting"
        reason = "the event took longer than %g s (eventTimeout); worker %s was restarted"
        reason %= (self._pool.config.event_timeout or 0, self.name)
        self.trouble = WorkerFailure.of(reason)
        exchange.finish(EventResult(408, error=reason))

        def report(frames: List[str]) -> None:
            text = "\n".join([reason + ("; it was here:" if frames else ""), *frames])
            record = LogRecord("error", text, worker=self.name)
            record.request_id = exchange.request_id
            self._log.write(record)

        self._end_hang(report)

    def _init_hangs(self, seconds: float) -> None:
        what = "init_context" if self._imported else "the import of the handler"
        if self._ready_at:
            what = "the reload"

        def report(frames: List[str]) -> None:
            self._failure = startup_timeout(self.name, what, seconds, frames)

        self._end_hang(report)

    def _end_hang(self, report: Callable[[List[str]], None]) -> None:
        if self.process is not None and self._hang is None:
            self._hang = StackDump(self._loop, self.process, report)

    def on_line(self, stream: str, line: str) -> None:
        if stream == "stderr" and self._hang is not None:
            self._hang.add(line)
            return
        log_record(self._log, LogRecord("info", line, stream, self.name), self.flight.exchange)

    def on_message(self, message: wire.Message) -> None:
        _HANDLERS[message.kind](self, message)

    def _on_record(self, message: wire.Message) -> None:
        log_record(self._log, decode_record(message, self.name), self.flight.exchange)

    def _on_piece(self, message: wire.Message) -> None:
        if self.flight.exchange is not None and not self._expired:
            self.flight.exchange.piece(message.body)

    def _on_want(self, message: wire.Message) -> None:
        if self.process is not None:
            self._large.give_room(self.process, message.meta["size"])

    def _on_failed(self, message: wire.Message) -> None:
        self._failure = WorkerFailure(message.meta["reason"], message.meta["message"])
        if self._ready_at:
            reason = "worker %s is replaced: %s" % (self.name, self._failure.reason)
            self._failure = WorkerFailure.of(reason)

    def _on_started(self, message: wire.Message) -> None:
        self._pool.worker_started(message.meta)

    def _on_imported(self, _message: wire.Message) -> None:
        self._imported = True

    def _on_reloaded(self, message: wire.Message) -> None:
        if self._answers:
            answer = self._answers.pop(0)
            if not answer.done():
                answer.set_result(message.meta["answer"])

    def _on_ready(self, _message: wire.Message) -> None:
        if self.process is not None:
            self.process.read_output()
        self._cancel_init_timer()
        if self.trouble is not None:
            text = "worker %s is ready again" % self.name
            self._log.write(LogRecord("info", text, worker=self.name))
            self.trouble = None
        self._ready_at = self._loop.time()
        self.state = "ready"
        self._pool.worker_ready()
        self._pool.release(self)

    def _on_reply(self, message: wire.Message) -> None:
        if self.process is not None:
            # What the handler printed is logged under its own request.
            self.process.read_output()
        outcome = EventResult.from_message(message)
        place = message.meta.get(wire.BODY)
        if place is not None:
            exchange = self.flight.exchange
            if self.process is None or exchange is None or self._expired:
                return
            if not self._large.begin(self.process, exchange, outcome, place):
                return
        self._end_event(outcome)

    def _end_event(self, outcome: EventResult) -> None:
        """Give the idle worker its next event, then answer the one that it has handled."""
        cargo = self.flight.end()
        if cargo is None or self._expired:
            return
        self._backoff.reset()
        if self._failure is not None:
            # The worker announced before its reply that it will end.
            self.state = "restarting"
            assert self.process is not None
            limit = self._pool.trigger.termination_timeout
            self._loop.call_later(limit, self.process.kill)
        else:
            self.state = "ready"
            if not self._leaving:
                # The worker gets its next event first.
                self._pool.release(self)
        cargo[0].finish(outcome)

    def _on_last_piece(self, message: wire.Message) -> None:
        if self.process is not None:
            self.process.read_output()
        outcome = self._large.end(message.meta)
        if outcome is not None:
            self._end_event(outcome)

    def on_end(self, status: int) -> None:
        process, self.process = self.process, None
        self._cancel_init_timer()
        self._pool.withdraw(self)
        lost = self._settle(status, process is not None and process.event_unread)
        if self._leaving or self._pool.stopping:
            self.state = "stopped"
        elif self._expired:
            self._restart_now()
        elif self._ready_at:
            self._died(self._failure or WorkerFailure.of(describe_exit(self.name, status)), lost)
        else:
            output = last_output(list(process.last_lines)) if process is not None else ""
            self._fail(self._failure or startup_failure(self.name, status, self._imported, output))
            self._restart_later()
        for future in self._ended:
            if not future.done():
                future.set_result(None)
        self._ended = []

    def _settle(self, status: int, unread: bool) -> Optional[PendingEvent]:
        """Answer who still waits for it; the event that was lost with it."""
        lost: Optional[PendingEvent] = None
        self._large.drop()
        reason = describe_exit(self.name, status)
        cargo = self.flight.end()
        if cargo is not None:
            exchange, meta, body = cargo
            if unread and not self._expired:
                # The handler never saw it: the worker was gone before it had read the event.
                self._pool.dispatch_again(meta, body, exchange)
            else:
                lost = exchange
                exchange.finish(EventResult(500, error=reason + " while it handled this event"))
        for answer in self._answers:
            if not answer.done():
                answer.set_result(self._failure.text if self._failure else reason)
        self._answers = []
        return lost

    def _died(self, trouble: WorkerFailure, lost: Optional[PendingEvent]) -> None:
        record = LogRecord("error", trouble.text, worker=self.name)
        if lost is not None:
            record.request_id = lost.request_id
            record.message += " while it handled request " + lost.request_id
        self._log.write(record)
        self.trouble = trouble
        if self._loop.time() - self._ready_at > _STABLE_SECONDS:
            self._backoff.reset()
        self.state = "restarting"
        self._restart_later()

    def _fail(self, trouble: WorkerFailure) -> None:
        """It never became ready."""
        self.state = "unhealthy"
        self.trouble = trouble
        text = trouble.text
        if not self._pool.first_seen(text):
            text = "failed in the same way: " + trouble.reason
        self._log.write(LogRecord("error", text, worker=self.name))
        self._pool.worker_failed()

    def _restart_later(self) -> None:
        if self._pool.config.restart == "no":
            self.state = "unhealthy"
            self._pool.worker_failed()
            return
        wait = self._backoff.next()
        if self.state == "unhealthy" and wait == 0.0:
            # A start that failed fails again at once; only a death in service is retried at once.
            wait = self._backoff.next()
        self._start_timer = self._loop.call_later(wait, self._restart_now)

    def _restart_now(self) -> None:
        if not self._pool.stopping:
            self.restarts += 1
            failed = self.state == "unhealthy"
            self.start()
            if failed:
                # It stays unhealthy in the eyes of others until a start succeeds.
                self.state = "unhealthy"

    def _cancel_init_timer(self) -> None:
        if self._init_timer is not None:
            self._init_timer.cancel()
            self._init_timer = None

    async def reload(self) -> str:
        """Swap the entry module in place: `ok` or why not. A worker that is down starts anew."""
        if self.process is None or not self._ready_at or self._expired:
            return await self.restart()
        answer: asyncio.Future[str] = self._loop.create_future()
        self._answers.append(answer)
        self.process.send(wire.RELOAD, {})
        limit = self._pool.config.readiness_timeout
        timer = self._loop.call_later(limit, self._init_hangs, limit)
        try:
            return await answer
        finally:
            timer.cancel()

    async def restart(self) -> str:
        """End the process after its event, start another, wait: `ok` or why it is not ready."""
        await self._leave(self._pool.trigger.termination_timeout)
        self.restarts += 1
        self._backoff.reset()
        self.start()
        return await self._settled()

    def drain(self) -> None:
        """Have the handler's drain callback called, behind the event under way."""
        if self.process is not None and self._ready_at:
            self.process.send(wire.DRAIN, {})

    async def stop(self, timeout: float) -> None:
        """End the process for good."""
        if self._start_timer is not None:
            self._start_timer.cancel()
        await self._leave(timeout)
        self.state = "stopped"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    async def _leave(self, timeout: float) -> None:
        self._leaving = True
        self._pool.withdraw(self)
        process = self.process
        if process is None:
            self._pool.starter.cancel(self)
            return
        ended: asyncio.Future[None] = self._loop.create_future()
        self._ended.append(ended)
        if self._ready_at:
            process.send(wire.STOP, {})
        else:
            process.kill()
        timer = self._loop.call_later(timeout, process.kill)
        try:
            await ended
        finally:
            timer.cancel()

    async def _settled(self) -> str:
        limit = time.monotonic() + self._pool.config.readiness_timeout + 5.0
        while time.monotonic() < limit:
            if self.state in ("ready", "busy"):
                return "ok"
            if self.state in ("unhealthy", "stopped"):
                break
            await asyncio.sleep(0.01)
        return self.trouble.text if self.trouble else "worker %s is %s" % (self.name, self.state)

    def to_dict(self) -> Any:
        """The worker's line in the status."""
        return {
            "id": self.name,
            "state": self.state,
            "pid": self.pid,
            "restarts": self.restarts,
            "reason": self.trouble.reason if self.trouble else "",
            "message": self.trouble.text if self.trouble else "",
        }


_HANDLERS: Dict[int, Callable[[WorkerHandle, wire.Message], None]] = {
    wire.STARTED: WorkerHandle._on_started,
    wire.IMPORTED: WorkerHandle._on_imported,
    wire.READY: WorkerHandle._on_ready,
    wire.FAILED: WorkerHandle._on_failed,
    wire.RECORD: WorkerHandle._on_record,
    wire.REPLY: WorkerHandle._on_reply,
    wire.REQUEST_MEMORY: WorkerHandle._on_want,
    wire.PIECE: WorkerHandle._on_piece,
    wire.END: WorkerHandle._on_last_piece,
    wire.RELOADED: WorkerHandle._on_reloaded,
}
