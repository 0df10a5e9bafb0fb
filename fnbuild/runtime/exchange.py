"""One event on its way: from the request to the worker and back."""

from typing import Any, Callable, Dict, List, Optional, Tuple

from . import wire
from .logs import LEVELS, Log, Record

Headers = List[Tuple[str, str]]


class Outcome:
    """What became of an event.

    `error` is the processor's own sentence when no worker answered; `raised` says that the handler
    raised. `duration` is the seconds the handler took, `begun` when it began (`time.monotonic`,
    which all processes of a machine share); both 0 when no worker answered. `parts` are the status,
    headers and size of each answer to a batch, whose bodies lie one behind the other. `shared` is
    one object for equal replies: what is derived from status and headers may be kept in it.
    """

    __slots__ = (
        "begun", "body", "duration", "error", "headers", "parts", "raised", "shared", "status",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        headers: Optional[Headers] = None,
        body: bytes = b"",
        error: Optional[str] = None,
    ) -> None:
        self.status = status
        self.headers = headers or []
        self.body = body
        self.error = error
        self.raised = False
        self.begun = 0.0
        self.duration = 0.0
        self.parts: Optional[List[Any]] = None
        self.shared: Optional[Dict[str, Any]] = None

    @classmethod
    def from_message(cls, message: wire.Message) -> "Outcome":
        meta = message.meta
        outcome = cls(meta["s"], meta["h"], message.body)
        outcome.raised = "x" in meta
        outcome.begun, outcome.duration = message.mark
        outcome.parts = meta.get("a")
        outcome.shared = meta
        return outcome


class Exchange:
    """The processor's side of one event in flight; `done` gets its outcome, once.

    With `level` (the request's X-Nuclio-Log-Level) the handler's records are kept for the reply.
    `trace_id` is that of the trace the event belongs to, if it belongs to one.
    """

    __slots__ = ("_done", "level", "records", "request_id", "trace_id")

    def __init__(
        self, done: Callable[["Exchange", Outcome], None], request_id: str, level: Optional[str]
    ) -> None:
        self._done: Optional[Callable[[Exchange, Outcome], None]] = done
        self.request_id = request_id
        self.level = level
        self.records: List[Dict[str, Any]] = []
        self.trace_id: Optional[str] = None

    def keep(self, record: Record) -> None:
        """Keep the record for the reply when the request asked for its level."""
        if self.level is not None and LEVELS.get(record.level, 10) >= LEVELS[self.level]:
            item = record.to_dict()
            item.pop("worker", None)
            item.pop("request_id", None)
            item.pop("trace_id", None)
            self.records.append(item)

    def finish(self, outcome: Outcome) -> None:
        """Answer the waiting request; what comes after the first answer is too late."""
        done, self._done = self._done, None
        if done is not None:
            done(self, outcome)


def record_of(message: wire.Message, worker: str) -> Record:
    """The log record in a worker's message."""
    meta = message.meta
    record = Record(meta["l"], meta["m"], meta.get("n", "handler"), worker, meta.get("w"))
    record.time = meta["t"]
    return record


def log_to(log: Log, record: Record, exchange: Optional[Exchange]) -> None:
    """Log a worker's record, under its request when there is one."""
    if exchange is not None:
        record.request_id = exchange.request_id
        record.trace_id = exchange.trace_id
        if record.name not in ("stdout", "stderr"):
            exchange.keep(record)
    log.write(record)
