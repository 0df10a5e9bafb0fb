"""A worker as the processor sees it: given events, timed, and replaced if one takes too long."""

from typing import Callable, Dict, List, Optional

from .. import wire
from ..logs import LogRecord
from .large_replies import LargeReply
from .pending_event import CurrentEvent, EventResult, PendingEvent, decode_record, log_record
from .shared_memory import Payload
from .worker_failure import WorkerFailure
from .worker_lifecycle import WorkerLifecycle
from .worker_owner import WorkerOwner


class WorkerHandle(WorkerLifecycle):
    """A worker and its events."""

    def __init__(self, pool: "WorkerOwner[WorkerHandle]", number: int) -> None:
        super().__init__(pool, number)
        self.current_event = CurrentEvent(pool.loop, pool.config.event_timeout, self._expire)
        self._large = LargeReply(pool.reply_memory)

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

    def _fail_event(self, reason: str, unread: bool) -> Optional[PendingEvent]:
        self._large.discard()
        delivery = self.current_event.end()
        if delivery is None:
            return None
        event, meta, body = delivery
        if unread and not self._expired:
            # The handler never saw the event: the worker ended before it had read it.
            self._pool.redispatch(meta, body, event)
            return None
        event.finish(EventResult(500, error=reason + " while it handled this event"))
        return event


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
    wire.ASLEEP: WorkerHandle._on_asleep,
}
