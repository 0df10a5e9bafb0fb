"""One event on its way: from the request to the worker and back."""

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from .. import wire
from ..event_loop import FileBody
from ..logs import LEVELS, Log, LogRecord

Headers = List[Tuple[str, str]]


class BodySource:
    """A producer of a body in pieces."""

    def credit(self, count: int) -> None:
        """Report that this many more bytes were sent to the client."""

    def cancel(self) -> None:
        """Report that the client no longer reads the body."""


class EventResult:
    """The result of an event.

    `error` is the processor's own message if no worker answered; `raised` is True if the handler
    raised. `duration` is the handler's time in seconds, and `begun` its start (`time.monotonic`,
    which all processes of a machine share); both are 0 if no worker answered. `parts` are the
    status, headers and size of each answer to a batch, whose bodies follow one another. `shared` is
    one object for equal replies, a cache for values derived from status and headers. `cut_short` is
    True if an error ended a reply that was sent in pieces; `size` is the number of bytes of such a
    reply if it is known in advance.
    """

    __slots__ = (
        "begun", "body", "cut_short", "duration", "error", "headers", "parts", "raised", "shared",
        "size", "status",
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
        self.begun = 0.0
        self.duration = 0.0
        self.parts: Optional[List[Any]] = None
        self.shared: Optional[Dict[str, Any]] = None

    @classmethod
    def from_message(cls, message: wire.Message) -> "EventResult":
        meta = message.meta
        outcome = cls(meta["s"], meta["h"], message.body)
        outcome.raised = "x" in meta
        outcome.begun, outcome.duration = message.mark
        outcome.parts = meta.get("a")
        outcome.size = meta.get("n")
        outcome.shared = meta
        return outcome


class PendingEvent:
    """The processor's side of one event in flight; `done` gets its outcome, once.

    With `level` (the request's X-Nuclio-Log-Level) the handler's records are kept for the reply.
    `trace_id` is that of the trace the event belongs to, if it belongs to one.
    """

    __slots__ = ("_done", "_source", "level", "records", "request_id", "trace_id")

    def __init__(
        self,
        done: Callable[["PendingEvent", EventResult], None],
        request_id: str,
        level: Optional[str],
    ) -> None:
        self._done: Optional[Callable[[PendingEvent, EventResult], None]] = done
        self.request_id = request_id
        self.level = level
        self.records: List[Dict[str, Any]] = []
        self.trace_id: Optional[str] = None
        self._source = BodySource()

    def keep(self, record: LogRecord) -> None:
        """Keep the record for the reply when the request asked for its level."""
        if self.level is not None and LEVELS.get(record.level, 10) >= LEVELS[self.level]:
            item = record.to_dict()
            item.pop("worker", None)
            item.pop("request_id", None)
            item.pop("trace_id", None)
            self.records.append(item)

    def begin(self, outcome: EventResult, source: BodySource) -> None:  # noqa: ARG002
        """Take the status and headers of a reply whose body follows in pieces, up to `finish`.

        This class drops the pieces, since its reply goes nowhere.
        """
        self._source = source

    def piece(self, data: wire.Body) -> None:
        """Take a piece of the body."""
        self._source.credit(len(data))

    def finish(self, outcome: EventResult) -> None:
        """Answer the waiting request; what comes after the first answer is too late."""
        done, self._done = self._done, None
        if done is not None:
            done(self, outcome)


def decode_record(message: wire.Message, worker: str) -> LogRecord:
    """The log record in a worker's message."""
    meta = message.meta
    record = LogRecord(meta["l"], meta["m"], meta.get("n", "handler"), worker, meta.get("w"))
    record.time = meta["t"]
    return record


def log_record(log: Log, record: LogRecord, exchange: Optional[PendingEvent]) -> None:
    """Log a worker's record, under its request when there is one."""
    if exchange is not None:
        record.request_id = exchange.request_id
        record.trace_id = exchange.trace_id
        if record.name not in ("stdout", "stderr"):
            exchange.keep(record)
    log.write(record)
