"""The log of a processor: its records, parsing its lines, and the output of a starting function."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from fnbuild.errors import FnbuildError
from fnbuild.progress import Progress
from fnbuild.runtime.logs import READY_MESSAGE

MAX_LINES = 200
_MAX_LINE_LENGTH = 500
_SOURCES = ("stdout", "stderr", "handler")
_LAST_OUTPUT_SECONDS = 3.0
_SILENCE_SECONDS = 0.3
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a function's log. `time` is in seconds since the epoch."""

    time: float
    level: str
    message: str
    worker: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The part of a function's log to read.

    `since` is in seconds since the epoch, None for the whole log. `tail` is the number of last
    records, None for all. With `follow`, new records follow until shortly after `stop` is set.
    """

    follow: bool = False
    since: float | None = None
    tail: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)


ALL_RECORDS = LogOptions()


def parse_log_line(line: bytes, fallback_time: float) -> LogRecord:
    """Parse a line of the log; `fallback_time` is the time of lines that have none.

    A line that is not JSON comes from the interpreter or a library, often with the cause of a
    failure, so it becomes an error record.
    """
    try:
        values: Any = json.loads(line)
        time_ms = float(values.pop("time"))
        level, message = str(values.pop("level")), str(values.pop("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return LogRecord(fallback_time, "error", line.decode(errors="replace").rstrip())
    worker = values.pop("worker", None)
    return LogRecord(
        time_ms / 1000, level, message, None if worker is None else str(worker), values
    )


class StartupOutput:
    """Reports the log records of a starting handler as progress.

    All workers write the same, so only the records of the first are reported. Records of requests
    are skipped: they belong to the previous revision, which may share the log.
    """

    def __init__(self, progress: Progress):
        self._progress = progress
        self._worker: str | None = None
        self._count = 0

    def report(self, record: LogRecord) -> None:
        if record.fields.get("name") not in _SOURCES or "request_id" in record.fields:
            return
        if record.worker is not None:
            self._worker = self._worker or record.worker
            if record.worker != self._worker:
                return
        for line in record.message.splitlines():
            self._count += 1
            if self._count < MAX_LINES:
                self._progress(f"| {line.rstrip()[:_MAX_LINE_LENGTH]}")
            elif self._count == MAX_LINES:
                self._progress("| … (the log has the rest)")


def is_ready_record(record: LogRecord) -> bool:
    """Return True if the record says that the processor's workers have started."""
    return record.message == READY_MESSAGE and record.fields.get("name") == "processor"


class StartupFollower:
    """Reports the records of a log in a thread until the block ends.

    `read` follows the log until its event is set. A log that cannot be read is ignored: readiness
    is determined by other means.
    """

    def __init__(self, read: Callable[[threading.Event], Iterator[LogRecord]], progress: Progress):
        self._read = read
        self._output = StartupOutput(progress)
        self._over = threading.Event()
        self._last_output = 0.0
        self._complete = threading.Event()
        self._thread = threading.Thread(target=self._run, name="startup output", daemon=True)

    def __enter__(self) -> StartupFollower:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The last lines may arrive after readiness is known.
        end = time.monotonic() + _LAST_OUTPUT_SECONDS
        while time.monotonic() < end and not self._complete.wait(_PAUSE):
            if self._last_output and time.monotonic() - self._last_output > _SILENCE_SECONDS:
                break
        self._over.set()

    def _run(self) -> None:
        with suppress(FnbuildError):
            # Read to the end, which `_over` causes: an abandoned log keeps its connection.
            for record in self._read(self._over):
                self._last_output = time.monotonic()
                if is_ready_record(record):
                    self._complete.set()
                if not (self._over.is_set() or self._complete.is_set()):
                    self._output.report(record)
        self._complete.set()
