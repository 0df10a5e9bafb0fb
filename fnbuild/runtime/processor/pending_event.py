"""An event between its trigger and a worker, and its result."""

import asyncio
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from .. import wire
from ..http.messages import BodySource
from ..logs import LEVELS, Log, LogRecord
from ..streams import FileBody
from .shared_memory import Payload

Headers = List[Tuple[str, str]]


class EventResult:
    """The result of an event.

    `error` is the processor's message if no worker answered; `raised` is True if the handler
    raised. `duration` is the handler's time in seconds and `started` its start (`time.monotonic`,
    which all processes of a machine share); both are 0 if no worker answered. `parts` are the
    status, headers and size of each reply to a batch, whose bodies follow one another; or the
    routes and sizes of a split request (`triggers.inference`). `cut_short` is True if an error
    ended a reply that was sent in pieces; `size` is the number of bytes of such a reply if it is
    known in advance.
    """

    __slots__ = (
        "body", "cut_short", "duration", "error", "headers", "parts", "raised",
        "size", "started", "status",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        headers: Optional[Headers] = None,
        body: Union[bytes, FileBody] = b"",
        error: Optional[str] = None,
    ) -> None:
        self.status = status
        self.headers = headers or []
        self.body = body
        self.error = error
        self.raised = False
        self.cut_short = False
        self.size: Optional[int] = None
        self.started = 0.0
        self.duration = 0.0
        self.parts: Optional[List[Any]] = None

    @classmethod
    def from_message(cls, message: wire.Message) -> "EventResult":
        """Return the result in a worker's REPLY."""
        meta = message.meta
        result = cls(meta["s"], meta["h"], message.body)
        result.raised = "x" in meta
        result.started, result.duration = meta["t"]
        result.parts = meta.get("a")
        result.size = meta.get("n")
        return result


class PendingEvent:
    """An event in flight; `on_result` is called once with its result.

    If `level` is set (the request's X-Nuclio-Log-Level), the handler's records are kept for the
    reply. `trace_id` is the id of the event's trace, if it has one.
    """

    __slots__ = ("_on_result", "_source", "level", "records", "request_id", "trace_id")

    def __init__(
        self,
        on_result: Callable[["PendingEvent", EventResult], None],
        request_id: str,
        level: Optional[str],
    ) -> None:
        self._on_result: Optional[Callable[[PendingEvent, EventResult], None]] = on_result
        self.request_id = request_id
        self.level = level
        self.records: List[Dict[str, Any]] = []
        self.trace_id: Optional[str] = None
        self._source = BodySource()

    def add_record(self, record: LogRecord) -> None:
        """Keep the record for the reply if the request asked for its level."""
        if self.level is not None and LEVELS.get(record.level, 10) >= LEVELS[self.level]:
            item = record.to_dict()
            item.pop("worker", None)
            item.pop("request_id", None)
            item.pop("trace_id", None)
            self.records.append(item)

    def begin_reply(self, result: EventResult, source: BodySource) -> None:  # noqa: ARG002
        """Take the status and headers of a reply whose body follows in pieces, up to `finish`.

        This class drops the pieces, since its reply goes nowhere.
        """
        self._source = source

    def write_piece(self, data: wire.Body) -> None:
        """Take a piece of the body."""
        self._source.credit(len(data))

    def finish(self, result: EventResult) -> None:
        """Report the result. Calls after the first have no effect."""
        on_result, self._on_result = self._on_result, None
        if on_result is not None:
            on_result(self, result)


Delivery = Tuple[PendingEvent, wire.Meta, Payload]


class CurrentEvent:
    """The event that a worker handles; calls `expired` if it takes longer than `timeout`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: Optional[float],
        expired: Callable[[PendingEvent], None],
    ) -> None:
        self.event: Optional[PendingEvent] = None
        self._delivery: Optional[Delivery] = None
        self._loop = loop
        self._timeout = timeout
        self._expired = expired
        self._timer: Optional[asyncio.TimerHandle] = None

    def begin(self, event: PendingEvent, meta: wire.Meta, body: Payload) -> None:
        """Begin an event, which the worker has from now on."""
        self.event = event
        self._delivery = (event, meta, body)
        if self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._expired, event)

    def end(self) -> Optional[Delivery]:
        """End the event; return it if there was one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delivery, self._delivery, self.event = self._delivery, None, None
        return delivery


def decode_record(message: wire.Message, worker: str) -> LogRecord:
    """Return the log record in a worker's message."""
    meta = message.meta
    record = LogRecord(meta["l"], meta["m"], "handler", worker, meta["w"])
    record.time = meta["t"]
    return record


def log_record(log: Log, record: LogRecord, event: Optional[PendingEvent]) -> None:
    """Log a worker's record with the identifiers of its event, if there is one."""
    if event is not None:
        record.request_id = event.request_id
        record.trace_id = event.trace_id
        if record.name not in ("stdout", "stderr"):
            event.add_record(record)
    log.write(record)
