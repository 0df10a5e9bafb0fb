"""One request on its way through the http trigger: the event it becomes, where its time goes."""

import time
from time import monotonic
from typing import TYPE_CHECKING, Any, Optional, Tuple

from .. import wire
from ..exchange import Exchange, Outcome, ReplySource
from ..http.messages import Request
from ..http.parser import Head
from ..http.writer import BodyWriter
from ..ids import new_id
from ..lifecycle import Worker
from ..logs import LEVELS
from ..tracing import Span, trace_of

if TYPE_CHECKING:
    from .http import HttpTrigger

_REQUEST_ID_CAP = 128


class Facts:
    """What a request's head says about its event; kept with the head, as equal heads share it.

    `event` is the event's meta, to which `Call` adds the mark, which differs each time.
    """

    __slots__ = ("event", "level", "request_id", "trace_id")

    def __init__(self, head: Head) -> None:
        values = head.lookup()
        level = values.get("x-nuclio-log-level")
        if level is not None and level not in LEVELS:
            level = "debug"
        self.level = level
        self.trace_id = trace_of(values.get("traceparent"))
        given = values.get("x-request-id")
        fits = given and len(given) <= _REQUEST_ID_CAP and given.isprintable()
        self.request_id = given if fits else None
        self.event = self.event_with(head, head.fields)

    def event_with(self, head: Head, fields: Any) -> bytes:
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


class Call(Exchange):
    """One request, from its last byte to its reply.

    The request's id is the client's X-Request-Id, or else the event's own.
    """

    __slots__ = (
        "_facts", "_trigger", "dispatched", "event_id", "request", "span", "worker", "writer",
    )  # fmt: skip

    def __init__(self, trigger: "HttpTrigger", request: Request) -> None:
        head = request.head
        facts = head.derived
        if facts is None:
            facts = head.derived = Facts(head)
        self.event_id = new_id()
        Exchange.__init__(self, trigger.done, facts.request_id or self.event_id, facts.level)
        self.trace_id = facts.trace_id
        self._facts = facts
        self._trigger = trigger
        self.request = request
        self.dispatched = 0.0
        self.worker = ""
        self.span: Optional[Span] = None
        self.writer: Optional[BodyWriter] = None

    def begin(self, outcome: Outcome, source: ReplySource) -> None:
        self._trigger.begin(self, outcome, source)

    def piece(self, data: wire.Body) -> None:
        if self.writer is not None:
            self.writer.write(data)

    def given(self, worker: Optional[Worker], waited: float) -> None:
        """The wait for a worker is over."""
        self._trigger.given(self, worker, waited)

    def dispatch(self, worker: Worker) -> None:
        """Give the event to the worker."""
        meta = wire.encode_event(self.assign(worker), self.event_id, time.time())
        worker.dispatch(meta, self.request.body, self)

    def assign(self, worker: Worker) -> bytes:
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

    def times(self, outcome: Outcome) -> Tuple[float, float, float, float]:
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
