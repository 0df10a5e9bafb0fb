"""Reading, following and rotating a function's log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms import LogRecord
from fnbuild.platforms.process import ProcessPlatform, functionlog
from tests.platforms.process.author import NAMESPACE, Author, ask, wait_for


def line(message: str, seconds: float = 1.0, **more: object) -> bytes:
    record = {"time": seconds * 1000, "level": "info", "message": message, "name": "x", **more}
    return json.dumps(record).encode() + b"\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def messages(records: Iterator[LogRecord]) -> list[str]:
    return [record.message for record in records]


def test_records(log: Path) -> None:
    log.write_bytes(line("one", 1.5, worker=0, request_id="r") + b"Segmentation fault\n")
    one, two = functionlog.read(log)
    assert one == LogRecord(1.5, "info", "one", "0", {"name": "x", "request_id": "r"})
    # What is no record keeps its place in time.
    assert two == LogRecord(1.5, "error", "Segmentation fault")


def test_since_and_tail(log: Path) -> None:
    log.write_bytes(b"".join(line(str(n), n) for n in range(5)))
    assert messages(functionlog.read(log, since=2.0)) == ["2", "3", "4"]
    assert messages(functionlog.read(log, tail=2)) == ["3", "4"]
    assert messages(functionlog.read(log, since=1.0, tail=0)) == []


def test_no_log_yet(log: Path) -> None:
    assert messages(functionlog.read(log)) == []
    assert functionlog.last_words(log, 0) == ""
    assert functionlog.rotate(log) is False


def test_rotation_keeps_the_records_and_the_open_file(log: Path) -> None:
    with log.open("ab", buffering=0) as writer:
        writer.write(line("before"))
        assert functionlog.rotate(log, largest=1_000_000) is False
        assert functionlog.rotate(log, largest=10) is True
        writer.write(line("after"))
    assert messages(functionlog.read(log)) == ["before", "after"]
    assert log.read_bytes() == line("after")
    assert functionlog.last_words(log, 1_000_000) == "after"


def test_following_goes_through_a_rotation(log: Path) -> None:
    log.write_bytes(line("one"))
    seen: list[str] = []

    def follow() -> None:
        for record in functionlog.read(log, follow=True, tail=1):
            seen.append(record.message)

    thread = threading.Thread(target=follow)
    thread.start()
    with log.open("ab", buffering=0) as writer:
        assert wait_for(lambda: seen == ["one"])
        half = line("two")
        writer.write(half[:10])
        time.sleep(0.15)  # a reader has met the half line by then, or meets the whole one
        writer.write(half[10:])
        assert wait_for(lambda: seen == ["one", "two"])
        functionlog.rotate(log, largest=1)
        assert wait_for(lambda: log.stat().st_size == 0)
        writer.write(line("3"))
        assert wait_for(lambda: seen == ["one", "two", "3"])
    log.unlink()
    thread.join(10)
    assert not thread.is_alive()


def test_the_logs_of_a_function(platform: ProcessPlatform, author: Author) -> None:
    code = "def handler(context, event):\n    print('printed')\n    context.logger.warn('warned')\n"
    made = author.deploy(author.write_code(code))
    ask(made.http_port)
    assert wait_for(lambda: "warned" in messages(platform.logs(NAMESPACE, "greeter")))
    found = {record.message: record for record in platform.logs(NAMESPACE, "greeter")}
    assert found["printed"].worker == "0"
    assert abs(found["warned"].time - time.time()) < 60
    assert found["warned"].level.startswith("warn")
