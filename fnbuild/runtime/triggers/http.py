"""The http trigger: a request becomes an event, the worker's result becomes the reply.

Statuses and headers follow Nuclio's (pkg/processor/trigger/http/trigger.go). Every reply has a
`Server-Timing` header with the milliseconds of each stage. The backlog is limited: beyond
`maxBacklog` waiting requests, or `maxBacklogBytes` of their bodies, a request gets 503 at once.
"""

import json
import time
from time import monotonic
from typing import Any, Dict, List, Optional, Tuple, Union

from .. import wire
from ..config import attribute_number
from ..http.messages import (
    DEFERRED,
    Body,
    BodyWriter,
    ConnectionLimits,
    Deferred,
    HttpRequest,
    Reply,
    encode_header_lines,
)
from ..http.parser import RequestHead
from ..ids import INSTANCE_HEADER, instance_id, new_id
from ..logs import LEVELS
from ..processor.metrics import TriggerMetrics
from ..processor.pending_event import BodySource, EventResult, PendingEvent
from ..processor.pool import WorkerPool
from ..processor.refusal_log import RefusalLog
from ..processor.tracing import Span, Tracer, trace_id_of
from ..processor.worker_handle import WorkerHandle
from . import file_replies
from .cors import cors_policy

_MAX_REQUEST_ID = 128


class EventAttributes:
    """What a request's head says about its event; kept with the head, as equal heads share it.

    `event` is the event's meta, to which `Call` adds the mark, which differs each time.
    """

    __slots__ = ("event", "level", "request_id", "trace_id")

    def __init__(self, head: RequestHead) -> None:
        values = head.lookup()
        level = values.get("x-nuclio-log-level")
        if level is not None and level not in LEVELS:
            level = "debug"
        self.level = level
        self.trace_id = trace_id_of(values.get("traceparent"))
        given = values.get("x-request-id")
        fits = given and len(given) <= _MAX_REQUEST_ID and given.isprintable()
        self.request_id = given if fits else None
        self.event = self.event_with(head, head.fields)

    def event_with(self, head: RequestHead, fields: Any) -> bytes:
        """What a worker needs to make the event, besides the body; read by `events`."""
        meta = {
            "m": head.method,
            "p": head.path,
            "q": head.query,
            "u": head.target,
            "h": fields,
            "ct": head.lookup().get("content-type") or "",
        }
        if self.level is not None:
            meta["l"] = LEVELS[self.level]
        return wire.encode(meta)


class PendingRequest(PendingEvent):
    """One request, from its last byte to its reply.

    The request's id is the client's X-Request-Id, or else the event's own.
    """

    __slots__ = (
        "_facts", "_trigger", "dispatched", "event_id", "request", "span", "worker", "writer",
    )  # fmt: skip

    def __init__(self, trigger: "HttpTrigger", request: HttpRequest) -> None:
        head = request.head
        facts = head.derived
        if facts is None:
            facts = head.derived = EventAttributes(head)
        self.event_id = new_id()
        PendingEvent.__init__(self, trigger.done, facts.request_id or self.event_id, facts.level)
        self.trace_id = facts.trace_id
        self._facts = facts
        self._trigger = trigger
        self.request = request
        self.dispatched = 0.0
        self.worker = ""
        self.span: Optional[Span] = None
        self.writer: Optional[BodyWriter] = None

    def begin(self, outcome: EventResult, source: BodySource) -> None:
        self._trigger.begin(self, outcome, source)

    def piece(self, data: wire.Body) -> None:
        if self.writer is not None:
            self.writer.write(data)

    def given(self, worker: Optional[WorkerHandle], waited: float) -> None:
        """The wait for a worker is over."""
        self._trigger.given(self, worker, waited)

    def dispatch(self, worker: WorkerHandle) -> None:
        """Give the event to the worker."""
        meta = wire.encode_event(self.assign(worker), self.event_id, time.time())
        worker.dispatch(meta, self.request.body, self)

    def assign(self, worker: WorkerHandle) -> bytes:
        """The worker gets the event now: what it needs besides the body and the mark."""
        event: bytes = self._facts.event
        if self.span is not None:
            fields = self.span.carry(self.request.head.fields)
            event = self._facts.event_with(self.request.head, fields)
        self.worker = worker.name
        self.dispatched = monotonic()
        return event

    def waited(self) -> float:
        """The milliseconds until a worker was there, or until now."""
        return ((self.dispatched or monotonic()) - self.request.received) * 1000.0

    def times(self, outcome: EventResult) -> Tuple[float, float, float, float]:
        """The milliseconds of queue, hand-over, handler and reply, for an event that was handled.

        The worker's clock is this one's (CLOCK_MONOTONIC), so that they add up to the whole.
        """
        began, duration = outcome.begun, outcome.duration
        return (
            (self.dispatched - self.request.received) * 1000.0,
            (began - self.dispatched) * 1000.0,
            duration * 1000.0,
            (monotonic() - began - duration) * 1000.0,
        )


HEALTH_PATH = "/__internal/health"

# Nuclio drops the logs header whole when it would be larger, in bytes.
_MAX_LOGS_HEADER = 4096
_RETRY_AFTER = ("Retry-After", "1")
_TIMING_LINES = (
    b"X-Request-Id: %s\r\n"
    b"Server-Timing: queue;dur=%.3f, handover;dur=%.3f, handler;dur=%.3f, reply;dur=%.3f\r\n"
)
# More than a function of any speed works off within the usual availability timeout of ten seconds
# is worth little to those who wait, and their bodies cost memory meanwhile.
_DEFAULT_BACKLOG = 1024
_DEFAULT_BACKLOG_BYTES = 256 * 1024 * 1024


def connection_limits(attributes: Dict[str, Any]) -> ConnectionLimits:
    """The trigger's own limits, in bytes: maxRequestBodySize and readBufferSize.

    ConfigFileError when one of them is no number.
    """
    usual = ConnectionLimits()
    return ConnectionLimits(
        max_body=attribute_number(attributes, "maxRequestBodySize", usual.max_body),
        max_head=attribute_number(attributes, "readBufferSize", usual.max_head),
    )


def app_without_trigger(request: HttpRequest) -> Reply:
    """The application where there is no http trigger: only health is there, as in Nuclio."""
    if request.path.startswith(HEALTH_PATH):
        return Reply(200, [(INSTANCE_HEADER, instance_id())], b"ok")
    return Reply.json(404, {"error": "the function has no http trigger"})


class HttpTrigger:
    """The application of the http listener. ConfigFileError when an attribute is wrong."""

    def __init__(
        self,
        pool: WorkerPool,
        metrics: TriggerMetrics,
        refusals: RefusalLog,
        tracer: Optional[Tracer] = None,
    ) -> None:
        attributes = pool.trigger.attributes
        self._pool = pool
        self._metrics = metrics
        self._refusals = refusals
        self._tracer = tracer
        self._timeout = pool.trigger.availability_timeout
        self._workers = len(pool.workers)
        self._cors = cors_policy(attributes)
        self._backlog = attribute_number(attributes, "maxBacklog", _DEFAULT_BACKLOG, "requests")
        self._backlog_bytes = attribute_number(
            attributes, "maxBacklogBytes", _DEFAULT_BACKLOG_BYTES
        )
        self._waiting_bytes = 0

    def __call__(self, request: HttpRequest) -> Union[Reply, Deferred]:
        if self._cors is not None:
            answer = self._cors.check(request)
            if answer is not None:
                return answer
        if request.path.startswith(HEALTH_PATH):
            return Reply(200, [(INSTANCE_HEADER, instance_id())])
        return self._admit(PendingRequest(self, request))

    def _admit(self, call: PendingRequest) -> Union[Reply, Deferred]:
        request = call.request
        worker = self._pool.take()
        if worker is None:
            refusal = self._refusal() or self._crowd(len(request.body))
            if refusal is not None:
                return self._unavailable(call, refusal)
        if self._tracer is not None:
            call.span = self._tracer.start(request, call)
        if worker is None:
            self._queue(call)
        else:
            self._metrics.asked(self._pool.idle + 1, self._workers, len(request.body))
            self._metrics.allocated(0)
            call.dispatch(worker)
        return DEFERRED

    # Waiting for a worker.

    def _queue(self, call: PendingRequest) -> None:
        size = len(call.request.body)
        self._metrics.asked(0, self._workers, size)
        self._waiting_bytes += size
        self._pool.queue(self._timeout, call.given)

    def given(self, call: PendingRequest, worker: Optional[WorkerHandle], waited: float) -> None:
        """The wait for a worker is over, with or without one."""
        self._waiting_bytes -= len(call.request.body)
        if worker is None:
            self._metrics.timed_out(waited)
            self._end(call, self._unavailable(call, self._waited_in_vain()))
            return
        self._metrics.allocated(waited)
        if call.request.connection.closed:
            self._pool.release(worker)
            self._end(call, None)
        else:
            call.dispatch(worker)

    def _refusal(self) -> Optional[str]:
        """Why waiting for a worker would be in vain."""
        pool = self._pool
        if pool.stopping:
            return "the function is stopping"
        state = pool.state()
        if state == "unhealthy":
            trouble = pool.trouble()
            return "the function is unhealthy: %s" % (trouble.reason if trouble else "")
        return None

    def _crowd(self, size: int) -> Optional[str]:
        """Why one more, with a body of `size` bytes, is too many to wait."""
        waiting = self._waiting()
        if waiting >= self._backlog:
            reason = "%d requests wait for a worker already (maxBacklog)" % waiting
        elif waiting and self._waiting_bytes + size > self._backlog_bytes:
            reason = (
                "%d requests with %d bytes wait for a worker already, and this one has %d more; "
                "the limit is %d (maxBacklogBytes)"
                % (waiting, self._waiting_bytes, size, self._backlog_bytes)
            )
        else:
            return None
        self._metrics.turned_away()
        return reason

    def _waiting(self) -> int:
        return self._pool.waiting

    def _waited_in_vain(self) -> str:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        pool = self._pool
        if pool.was_ready or pool.serving:
            why = "all %d workers were busy for" % self._workers
        else:
            why = "the function is starting: no worker became ready within"
        milliseconds = round(self._timeout * 1000.0, 3)
        return "%s %g ms (workerAvailabilityTimeoutMilliseconds)" % (why, milliseconds)

    # Replies.

    def begin(self, call: PendingRequest, outcome: EventResult, source: BodySource) -> None:
        """Begin the answer of a worker that sends the body in pieces."""
        try:
            reply = self._reply(call, outcome)
            if file_replies.file_reply(outcome.headers) is not None:
                raise ValueError("it names a file and has a body of its own")
            call.writer = call.request.begin(reply, source, outcome.size)
        except (file_replies.FileReplyError, ValueError) as problem:
            source.cancel()
            reply = self._failed(call, 500, "the reply cannot be sent: %s" % problem)
            call.request.answer(reply)

    def done(self, call: Any, outcome: EventResult) -> None:
        """A worker has answered, or has come to its end."""
        seconds = monotonic() - call.dispatched
        whole = outcome.error is None and not outcome.cut_short
        self._metrics.handled(call.worker, seconds, outcome.status < 500 and whole)
        if call.writer is not None:
            if call.span is not None:
                call.span.end(Reply(outcome.status if whole else 500), outcome)
            call.writer.end(whole)
            return
        if outcome.error is not None:
            reply = self._failed(call, outcome.status, outcome.error)
        else:
            try:
                reply = self._reply(call, outcome)
            except file_replies.FileReplyError as problem:
                self._pool.log.error(str(problem))
                reply = self._failed(call, 404, str(problem))
            except ValueError as problem:
                reply = self._failed(call, 500, "the reply cannot be sent: %s" % problem)
        self._end(call, reply, outcome)

    def _end(
        self, call: PendingRequest, reply: Optional[Reply], outcome: Optional[EventResult] = None
    ) -> None:
        if call.span is not None:
            call.span.end(reply, outcome)
        call.request.answer(reply)

    def _reply(self, call: PendingRequest, outcome: EventResult) -> Reply:
        times = call.times(outcome)
        self._metrics.spent(*times)
        shared = outcome.shared
        lines: Optional[bytes] = None if shared is None else shared.get("lines")
        if shared is None or lines is None:
            file = file_replies.file_reply(outcome.headers)
            lines = encode_header_lines(outcome.headers if file is None else file.headers)
            if shared is not None:
                shared["lines"], shared["file"] = lines, file
        else:
            file = shared["file"]
        if self._cors is not None:
            more = self._cors.headers(call.request, outcome.headers)
            lines += encode_header_lines(more, server=False)
        if call.level is not None:
            lines += encode_header_lines(self._logs(call), server=False)
        lines += _TIMING_LINES % (call.request_id.encode("latin-1"), *times)
        body = outcome.body if file is None else self._file(call, file)
        return Reply(outcome.status, None, body, False, lines)

    def _file(self, call: PendingRequest, file: file_replies.FileReply) -> Body:
        """The content of the file that the handler's reply names."""
        if call.request.header(file_replies.PATH_HEADER) is not None:
            raise ValueError("the request itself names a file")
        pids = [worker.pid for worker in self._pool.workers if worker.name == call.worker]
        return file_replies.read_file(file, pids[0] if pids else 0)

    def _logs(self, call: PendingRequest) -> List[Tuple[str, str]]:
        logs = json.dumps(call.records, default=repr)
        if len(logs) < _MAX_LOGS_HEADER:
            return [("X-Nuclio-Logs", logs)]
        self._pool.log.warn(
            "The handler's logs are too large for the X-Nuclio-Logs header",
            size=len(logs),
            limit=_MAX_LOGS_HEADER,
        )
        return []

    def _unavailable(self, call: PendingRequest, reason: str) -> Reply:
        self._refusals.note(503, reason, call.request_id)
        return self._failed(call, 503, reason)

    def _failed(self, call: PendingRequest, status: int, reason: str) -> Reply:
        """A reply of the processor's own: the reason as JSON."""
        headers: List[Tuple[str, str]] = [("X-Request-Id", call.request_id)]
        if status == 503:
            headers.append(_RETRY_AFTER)
        headers.append(("Server-Timing", "queue;dur=%.3f" % call.waited()))
        if self._cors is not None:
            headers += self._cors.headers(call.request, headers)
        return Reply.json(status, {"error": reason, "request_id": call.request_id}, headers)
