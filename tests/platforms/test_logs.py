"""Records of a starting function that are reported as progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from fnbuild.errors import UnavailableError
from fnbuild.platforms import LogRecord
from fnbuild.platforms.logs import MAX_LINES, StartupFollower, StartupOutput, is_ready_record
from fnbuild.runtime.logs import READY_MESSAGE
from tests.engine import until


def record(message: str, worker: str | None = "0", name: str = "stdout", **more: str) -> LogRecord:
    return LogRecord(0.0, "info", message, worker, {"name": name, **more})


def test_output_of_the_first_worker_is_reported() -> None:
    lines: list[str] = []
    output = StartupOutput(lines.append)
    for log_record in (
        record("listening", None, "processor"),
        record("answered", request_id="of the old revision"),
        record("one\ntwo"),
        record("one", "1"),
        record("logged", name="handler"),
        LogRecord(0.0, "error", "no record", None, {}),
    ):
        output.report(log_record)
    assert lines == ["| one", "| two", "| logged"]


def test_startup_output_is_limited() -> None:
    lines: list[str] = []
    output = StartupOutput(lines.append)
    for _ in range(3 * MAX_LINES):
        output.report(record("x" * 10_000))
    assert len(lines) == MAX_LINES
    assert max(map(len, lines)) < 600
    assert lines[-1].startswith("| …")


def test_the_last_lines_are_reported_without_waiting() -> None:
    lines: list[str] = []

    def slow_log(stopped: threading.Event) -> Iterator[LogRecord]:
        yield record("loading")
        time.sleep(0.05)
        yield record("loaded")
        yield record(READY_MESSAGE, None, "processor")
        stopped.wait(60)
        yield record("asked")

    with StartupFollower(slow_log, lines.append):
        until("the first line", lambda: bool(lines))
    with StartupFollower(lambda _: broken_log(), lines.append):
        pass
    assert lines == ["| loading", "| loaded"]
    assert is_ready_record(record(READY_MESSAGE, None, "processor"))
    assert not is_ready_record(record(READY_MESSAGE))


def broken_log() -> Iterator[LogRecord]:
    raise UnavailableError("the log cannot be read")
    yield record("never")
