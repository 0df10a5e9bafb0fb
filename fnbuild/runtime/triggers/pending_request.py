"""A request in flight: an event of the http trigger."""

import abc
import time
from time import monotonic
from typing import Any, Optional, Tuple

from .. import wire
from ..http.messages import BodySource, BodyWriter, HttpRequest
from ..ids import new_id
from ..logs import LEVELS
from ..processor.pending_event import EventResult, PendingEvent
from ..processor.tracing import Span, trace_id_of
from ..processor.worker_handle import WorkerHandle

_MAX_REQUEST_ID = 128


class RequestOwner(abc.ABC):
    """The trigger of a request in flight."""

    @abc.abstractmethod
    def on_result(self, pending: Any, result: EventResult) -> None:
        """Answer the request with the result of its event."""

    @abc.abstractmethod
    def begin_reply(
        self, pending: "PendingRequest", result: EventResult, source: BodySource
    ) -> None:
        """Begin the reply of a worker that sends the body in pieces."""

    @abc.abstractmethod
    def split(self, pending: "PendingRequest", result: EventResult) -> None:
        """Handle the instances of a request as events of their own; see `inference`."""


class PendingRequest(PendingEvent):
    """A request in flight, from its last byte to its reply.

    `request_id` is the client's X-Request-Id or, without one, the event's id. `wake` are the
    seconds for which it waited until the workers were awake.
    """

    __slots__ = (
        "_trigger", "dispatched", "event_id", "request", "span", "wake", "worker", "writer",
    )  # fmt: skip

    def __init__(self, trigger: RequestOwner, request: HttpRequest) -> None:
        headers = request.head.lookup()
        level = headers.get("x-nuclio-log-level")
        if level is not None and level not in LEVELS:
            level = "debug"
        self.event_id = new_id()
        request_id = headers.get("x-request-id", "")
        if not 0 < len(request_id) <= _MAX_REQUEST_ID or not request_id.isprintable():
            request_id = self.event_id
        PendingEvent.__init__(self, trigger.on_result, request_id, level)
        self.trace_id = trace_id_of(headers.get("traceparent"))
        self._trigger = trigger
        self.request = request
        self.dispatched = 0.0
        self.wake = 0.0
        self.worker = ""
        self.span: Optional[Span] = None
        self.writer: Optional[BodyWriter] = None

    def begin_reply(self, result: EventResult, source: BodySource) -> None:
        self._trigger.begin_reply(self, result, source)

    def write_piece(self, data: wire.Body) -> None:
        if self.writer is not None:
            self.writer.write(data)

    def dispatch_to(self, worker: WorkerHandle) -> None:
        """Send the event to the worker."""
        worker.dispatch(self.assign(worker), self.request.body, self)

    def assign(self, worker: WorkerHandle) -> wire.Meta:
        """Record the worker and the time of the dispatch; return the event's meta."""
        self.worker = worker.name
        self.dispatched = monotonic()
        head = self.request.head
        meta = {
            "i": self.event_id,
            "ts": int(time.time()),
            "m": head.method,
            "p": head.path,
            "q": head.query,
            "u": head.target,
            "h": head.fields if self.span is None else self.span.propagate(head.fields),
            "ct": head.lookup().get("content-type", ""),
        }
        if self.level is not None:
            meta["l"] = LEVELS[self.level]
        return meta

    def add_wake(self, woken_at: float) -> None:
        """Record the time of the last wake, which the request may have waited for."""
        self.wake = max(0.0, woken_at - self.request.received_at)

    def waited_ms(self) -> float:
        """Return the milliseconds until the dispatch, or until now."""
        return ((self.dispatched or monotonic()) - self.request.received_at) * 1000.0

    def times_ms(self, result: EventResult) -> Tuple[float, float, float, float]:
        """Return the milliseconds of queue, handover, handler and reply of a handled event.

        Processor and workers use the same clock (CLOCK_MONOTONIC), so that these add up, with
        those of the wake.
        """
        started, duration = result.started, result.duration
        return (
            (self.dispatched - self.request.received_at - self.wake) * 1000.0,
            (started - self.dispatched) * 1000.0,
            duration * 1000.0,
            (monotonic() - started - duration) * 1000.0,
        )
