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


def test_what_the_first_worker_writes_itself_is_told() -> None:
    told: list[str] = []
    output = StartupOutput(told.append)
    for one in (
        record("listening", None, "processor"),
        record("answered", request_id="of the old revision"),
        record("one\ntwo"),
        record("one", "1"),
        record("logged", name="handler"),
        LogRecord(0.0, "error", "no record", None, {}),
    ):
        output.report(one)
    assert told == ["| one", "| two", "| logged"]


def test_a_flood_ends() -> None:
    told: list[str] = []
    output = StartupOutput(told.append)
    for _ in range(3 * MAX_LINES):
        output.report(record("x" * 10_000))
    assert len(told) == MAX_LINES
    assert max(map(len, told)) < 600
    assert told[-1].startswith("| …")


def test_the_last_lines_are_told_and_then_nothing_is_waited_for() -> None:
    told: list[str] = []

    def slow(over: threading.Event) -> Iterator[LogRecord]:
        yield record("loading")
        time.sleep(0.05)
        yield record("loaded")
        yield record(READY_MESSAGE, None, "processor")
        over.wait(60)
        yield record("asked")

    with StartupFollower(slow, told.append):
        until("the first line", lambda: bool(told))
    with StartupFollower(lambda _: broken(), told.append):
        pass
    assert told == ["| loading", "| loaded"]
    assert is_ready_record(record(READY_MESSAGE, None, "processor"))
    assert not is_ready_record(record(READY_MESSAGE))


def broken() -> Iterator[LogRecord]:
    raise UnavailableError("the log cannot be read")
    yield record("never")
