"""A worker as the processor sees it: started, given events, timed, and restarted when it ends."""

import abc
import asyncio
import time
from typing import Any, Callable, Dict, List, Optional

from .. import wire
from ..config import ProcessorConfig, TriggerConfig
from ..logs import Log, LogRecord
from ..tracebacks import last_output
from .large_replies import LargeReply, ReplyMemory
from .launch import begin_message
from .pending_event import CurrentEvent, EventResult, PendingEvent, decode_record, log_record
from .shared_memory import Payload
from .spawner import ProcessRequester, Spawner
from .worker_failure import Backoff, WorkerFailure, describe_exit, startup_failure, startup_timeout
from .worker_process import WorkerProcess

# A process that has run for this time, or has answered an event, started successfully.
_STABLE_SECONDS = 10.0


class WorkerOwner(abc.ABC):
    """The pool of a worker handle. `on_started` receives the report of each new process."""

    config: ProcessorConfig
    log: Log
    loop: asyncio.AbstractEventLoop
    on_started: Callable[[wire.Meta], None]
    reply_memory: ReplyMemory
    spawner: Spawner
    stopping: bool
    trigger: TriggerConfig

    @abc.abstractmethod
    def worker_ready(self, declared_tensors: wire.Meta) -> None:
        """Handle a worker that has finished init_context; see wire.READY for the tensors."""

    @abc.abstractmethod
    def worker_failed(self) -> None:
        """Handle a worker that did not become ready."""

    @abc.abstractmethod
    def release(self, worker: "WorkerHandle") -> None:
        """Take back an idle worker, for the next event."""

    @abc.abstractmethod
    def remove_idle(self, worker: "WorkerHandle") -> None:
        """Remove a worker that can take no more events."""

    @abc.abstractmethod
    def redispatch(self, meta: wire.Meta, body: Payload, event: PendingEvent) -> None:
        """Find another worker for an event whose worker ended before it had read it."""

    @abc.abstractmethod
    def is_new_failure(self, text: str) -> bool:
        """Return True if the text differs from that of the last failed start."""


# A worker that restarts waits for its back-off.
WORKER_STATES = ("starting", "ready", "busy", "restarting", "unhealthy", "stopped")


class WorkerHandle(ProcessRequester):
    """A worker through all its processes.

    `state` is one of WORKER_STATES. `failure` is the reason why it is not ready, with the handler's
    traceback if there is one.
    """

    def __init__(self, pool: WorkerOwner, number: int) -> None:
        self.name = str(number)
        self.state = "starting"
        self.failure: Optional[WorkerFailure] = None
        self.restarts = 0
        self.process: Optional[WorkerProcess] = None
        self.current_event = CurrentEvent(pool.loop, pool.config.event_timeout, self._expire)
        self._pool = pool
        self._log = pool.log
        self._loop = pool.loop
        self._backoff = Backoff()
        self._start_timer: Optional[asyncio.TimerHandle] = None
        self._init_timer: Optional[asyncio.TimerHandle] = None
        self._ready_at = 0.0
        self._reported_failure: Optional[WorkerFailure] = None
        self._imported = False
        self._expired = False
        self._reload_futures: List[asyncio.Future[str]] = []
        self._end_futures: List[asyncio.Future[None]] = []
        self._stopping = False
        self._large = LargeReply(pool.reply_memory)

    @property
    def pid(self) -> int:
        """The id of the current process; 0 without one."""
        return self.process.pid if self.process is not None else 0

    def start(self) -> None:
        """Start a process; `state` and `failure` tell whether that succeeds."""
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        self.state = "starting"
        self._reported_failure = None
        self._imported = self._expired = self._stopping = False
        self._ready_at = 0.0
        self._pool.spawner.request(self)

    def on_process(self, process: WorkerProcess) -> None:
        self.process = process
        process.owner = self
        if self._stopping or self._pool.stopping:
            process.kill()
        trigger = self._pool.trigger
        process.send(
            wire.BEGIN, begin_message(trigger, self.name, self._log.threshold, trigger.max_reply)
        )
        limit = self._pool.config.readiness_timeout
        self._init_timer = self._loop.call_later(limit, self._on_init_timeout, limit)

    def on_spawn_failure(self, failure: WorkerFailure) -> None:
        self._on_failed_start(failure)
        self._restart_later()

    def dispatch(self, meta: wire.Meta, body: Payload, event: PendingEvent) -> None:
        """Send the worker an event; it must have been acquired from the pool."""
        process = self.process
        if self.state != "ready" or process is None or not process.send(wire.EVENT, meta, body):
            if self.state == "ready":
                self.state = "restarting"
            self._pool.redispatch(meta, body, event)
            return
        self.state = "busy"
        self.current_event.begin(event, meta, body)

    def _expire(self, event: PendingEvent) -> None:
        self._expired = True
        self.state = "restarting"
        reason = "the event took longer than %g s (eventTimeout); worker %s was restarted"
        reason %= (self._pool.config.event_timeout or 0, self.name)
        self.failure = WorkerFailure.from_reason(reason)
        event.finish(EventResult(408, error=reason))

        def report(frames: List[str]) -> None:
            text = "\n".join([reason + ("; its stack was:" if frames else ""), *frames])
            record = LogRecord("error", text, worker=self.name)
            record.request_id = event.request_id
            self._log.write(record)

        self._dump_and_kill(report)

    def _on_init_timeout(self, seconds: float) -> None:
        step = "init_context" if self._imported else "the import of the handler"
        if self._ready_at:
            step = "the reload"
        activity = "worker %s: %s" % (self.name, step)

        def report(frames: List[str]) -> None:
            self._reported_failure = startup_timeout(activity, seconds, frames)

        self._dump_and_kill(report)

    def _dump_and_kill(self, report: Callable[[List[str]], None]) -> None:
        if self.process is not None:
            self.process.dump_stack(report)

    def on_line(self, stream: str, line: str) -> None:
        log_record(self._log, LogRecord("info", line, stream, self.name), self.current_event.event)

    def on_message(self, message: wire.Message) -> None:
        _HANDLERS[message.kind](self, message)

    def _on_record(self, message: wire.Message) -> None:
        log_record(self._log, decode_record(message, self.name), self.current_event.event)

    def _on_piece(self, message: wire.Message) -> None:
        if self.current_event.event is not None and not self._expired:
            self.current_event.event.write_piece(message.body)

    def _on_memory_request(self, message: wire.Message) -> None:
        if self.process is not None:
            self._large.provide_memory(self.process, message.meta["size"])

    def _on_failed(self, message: wire.Message) -> None:
        self._reported_failure = WorkerFailure(message.meta["reason"], message.meta["message"])
        if self._ready_at:
            reason = "worker %s is replaced: %s" % (self.name, self._reported_failure.reason)
            self._reported_failure = WorkerFailure.from_reason(reason)

    def _on_started(self, message: wire.Message) -> None:
        self._pool.on_started(message.meta)

    def _on_imported(self, _message: wire.Message) -> None:
        self._imported = True

    def _on_reloaded(self, message: wire.Message) -> None:
        if self._reload_futures:
            future = self._reload_futures.pop(0)
            if not future.done():
                future.set_result(message.meta["answer"])

    def _on_ready(self, message: wire.Message) -> None:
        if self.process is not None:
            self.process.read_output()
        self._cancel_init_timer()
        if self.failure is not None:
            text = "worker %s is ready again" % self.name
            self._log.write(LogRecord("info", text, worker=self.name))
            self.failure = None
        self._ready_at = self._loop.time()
        self.state = "ready"
        self._pool.worker_ready(message.meta)
        self._pool.release(self)

    def _on_reply(self, message: wire.Message) -> None:
        if self.process is not None:
            # The handler's output is logged with its own request.
            self.process.read_output()
        result = EventResult.from_message(message)
        body = message.meta.get(wire.BODY)
        if body is not None:
            event = self.current_event.event
            if self.process is None or event is None or self._expired:
                return
            if not self._large.begin(self.process, event, result, body):
                return
        self._end_event(result)

    def _end_event(self, result: EventResult) -> None:
        """Release the worker for its next event, then answer the one that it has handled."""
        delivery = self.current_event.end()
        if delivery is None or self._expired:
            return
        self._backoff.reset()
        if self._reported_failure is not None:
            # Before its reply the worker announced its end.
            self.state = "restarting"
            assert self.process is not None
            limit = self._pool.trigger.termination_timeout
            self._loop.call_later(limit, self.process.kill)
        else:
            self.state = "ready"
            if not self._stopping:
                # The next event first: the worker would be idle meanwhile.
                self._pool.release(self)
        delivery[0].finish(result)

    def _on_last_piece(self, message: wire.Message) -> None:
        if self.process is not None:
            self.process.read_output()
        result = self._large.end(message.meta)
        if result is not None:
            self._end_event(result)

    def on_end(self, status: int) -> None:
        process, self.process = self.process, None
        self._cancel_init_timer()
        self._pool.remove_idle(self)
        lost = self._fail_pending(status, process is not None and process.event_unread)
        if self._stopping or self._pool.stopping:
            self.state = "stopped"
        elif self._expired:
            self._restart_now()
        elif self._ready_at:
            self._on_death(
                self._reported_failure
                or WorkerFailure.from_reason(describe_exit(self.name, status)),
                lost,
            )
        else:
            output = last_output(list(process.last_lines)) if process is not None else ""
            self._on_failed_start(
                self._reported_failure or startup_failure(self.name, status, self._imported, output)
            )
            self._restart_later()
        for future in self._end_futures:
            if not future.done():
                future.set_result(None)
        self._end_futures = []

    def _fail_pending(self, status: int, unread: bool) -> Optional[PendingEvent]:
        """Answer everything that waits for the ended process; return the event lost with it."""
        lost: Optional[PendingEvent] = None
        self._large.discard()
        reason = describe_exit(self.name, status)
        delivery = self.current_event.end()
        if delivery is not None:
            event, meta, body = delivery
            if unread and not self._expired:
                # The handler never saw the event: the worker ended before it had read it.
                self._pool.redispatch(meta, body, event)
            else:
                lost = event
                event.finish(EventResult(500, error=reason + " while it handled this event"))
        for future in self._reload_futures:
            if not future.done():
                future.set_result(self._reported_failure.text if self._reported_failure else reason)
        self._reload_futures = []
        return lost

    def _on_death(self, failure: WorkerFailure, lost: Optional[PendingEvent]) -> None:
        record = LogRecord("error", failure.text, worker=self.name)
        if lost is not None:
            record.request_id = lost.request_id
            record.message += " while it handled request " + lost.request_id
        self._log.write(record)
        self.failure = failure
        if self._loop.time() - self._ready_at > _STABLE_SECONDS:
            self._backoff.reset()
        self.state = "restarting"
        self._restart_later()

    def _on_failed_start(self, failure: WorkerFailure) -> None:
        self.state = "unhealthy"
        self.failure = failure
        text = failure.text
        if not self._pool.is_new_failure(text):
            text = "failed in the same way: " + failure.reason
        self._log.write(LogRecord("error", text, worker=self.name))
        self._pool.worker_failed()

    def _restart_later(self) -> None:
        if self._pool.config.restart == "no":
            self.state = "unhealthy"
            self._pool.worker_failed()
            return
        wait = self._backoff.next()
        if self.state == "unhealthy" and wait == 0.0:
            # A failed start would fail again; only a worker that was ready restarts at once.
            wait = self._backoff.next()
        self._start_timer = self._loop.call_later(wait, self._restart_now)

    def _restart_now(self) -> None:
        if not self._pool.stopping:
            self.restarts += 1
            failed = self.state == "unhealthy"
            self.start()
            if failed:
                # It stays unhealthy until a start succeeds.
                self.state = "unhealthy"

    def _cancel_init_timer(self) -> None:
        if self._init_timer is not None:
            self._init_timer.cancel()
            self._init_timer = None

    async def reload(self) -> str:
        """Swap the entry module; return `ok` or the error. A worker that is down restarts."""
        if self.process is None or not self._ready_at or self._expired:
            return await self.restart()
        outcome: asyncio.Future[str] = self._loop.create_future()
        self._reload_futures.append(outcome)
        self.process.send(wire.RELOAD, {})
        limit = self._pool.config.readiness_timeout
        timer = self._loop.call_later(limit, self._on_init_timeout, limit)
        try:
            return await outcome
        finally:
            timer.cancel()

    async def restart(self) -> str:
        """Replace the process after its event; return `ok` or the reason why it is not ready."""
        await self._stop_process(self._pool.trigger.termination_timeout)
        self.restarts += 1
        self._backoff.reset()
        self.start()
        return await self._wait_until_settled()

    def run_drain_callback(self) -> None:
        """Run the handler's drain callback after the current event."""
        if self.process is not None and self._ready_at:
            self.process.send(wire.DRAIN, {})

    async def stop(self, timeout: float) -> None:
        """End the process and start no other."""
        if self._start_timer is not None:
            self._start_timer.cancel()
        await self._stop_process(timeout)
        self.state = "stopped"

    def kill(self) -> None:
        """Kill the current process."""
        if self.process is not None:
            self.process.kill()

    async def _stop_process(self, timeout: float) -> None:
        self._stopping = True
        self._pool.remove_idle(self)
        process = self.process
        if process is None:
            self._pool.spawner.cancel(self)
            return
        ended: asyncio.Future[None] = self._loop.create_future()
        self._end_futures.append(ended)
        if self._ready_at:
            process.send(wire.STOP, {})
        else:
            process.kill()
        timer = self._loop.call_later(timeout, process.kill)
        try:
            await ended
        finally:
            timer.cancel()

    async def _wait_until_settled(self) -> str:
        limit = time.monotonic() + self._pool.config.readiness_timeout + 5.0
        while time.monotonic() < limit:
            if self.state in ("ready", "busy"):
                return "ok"
            if self.state in ("unhealthy", "stopped"):
                break
            await asyncio.sleep(0.01)
        return self.failure.text if self.failure else "worker %s is %s" % (self.name, self.state)

    def to_dict(self) -> Dict[str, Any]:
        """Return the worker's entry in the status."""
        return {
            "id": self.name,
            "state": self.state,
            "pid": self.pid,
            "restarts": self.restarts,
            "reason": self.failure.reason if self.failure else "",
            "message": self.failure.text if self.failure else "",
        }


_HANDLERS: Dict[int, Callable[[WorkerHandle, wire.Message], None]] = {
    wire.STARTED: WorkerHandle._on_started,
    wire.IMPORTED: WorkerHandle._on_imported,
    wire.READY: WorkerHandle._on_ready,
    wire.FAILED: WorkerHandle._on_failed,
    wire.RECORD: WorkerHandle._on_record,
    wire.REPLY: WorkerHandle._on_reply,
    wire.REQUEST_MEMORY: WorkerHandle._on_memory_request,
    wire.PIECE: WorkerHandle._on_piece,
    wire.END: WorkerHandle._on_last_piece,
    wire.RELOADED: WorkerHandle._on_reloaded,
}
