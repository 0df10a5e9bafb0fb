"""Reading, following and rotating a function's log."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from fnbuild.platforms import LogOptions, LogRecord, function_log
from fnbuild.platforms.process import ProcessPlatform
from tests.platforms.process.author import NAMESPACE, Author, invoke, wait_for

pytestmark = pytest.mark.system


def line(message: str, seconds: float = 1.0, **more: object) -> bytes:
    record = {"time": seconds * 1000, "level": "info", "message": message, "name": "x", **more}
    return json.dumps(record).encode() + b"\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def messages(records: Iterable[LogRecord]) -> list[str]:
    return [record.message for record in records]


def test_lines_become_records(log: Path) -> None:
    log.write_bytes(line("one", 1.5, worker=0, request_id="r") + b"Segmentation fault\n")
    first, second = function_log.read(log)
    assert first == LogRecord(1.5, "info", "one", "0", {"name": "x", "request_id": "r"})
    # A line that is not a record gets the time of the line before.
    assert second == LogRecord(1.5, "error", "Segmentation fault")


def test_since_and_tail_limit_the_records(log: Path) -> None:
    log.write_bytes(b"".join(line(str(n), n) for n in range(5)))
    assert messages(function_log.read(log, LogOptions(since=2.0))) == ["2", "3", "4"]
    assert messages(function_log.read(log, LogOptions(tail=2))) == ["3", "4"]
    assert messages(function_log.read(log, LogOptions(since=1.0, tail=0))) == []


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("tail", [0, 1, 2, 7, 400, 1100, 1999, 2000, 3000])
def test_tails_of_all_lengths(log: Path, tail: int, whole: bool) -> None:
    """The lengths cover one file and both, and the boundaries of blocks and files."""
    lines = [line(f"{number} {'x' * (number % 190)}") for number in range(2000)]
    function_log.rotated_path(log).write_bytes(b"".join(lines[:1000]))
    log.write_bytes(b"".join(lines[1000:])[: None if whole else -1])
    expected = [str(number) for number in range(2000)][2000 - min(tail, 2000) :]
    printed = messages(function_log.read(log, LogOptions(tail=tail)))
    assert [text.split()[0] for text in printed] == expected


def test_a_missing_log_is_empty(log: Path) -> None:
    assert messages(function_log.read(log)) == []
    assert function_log.last_messages(log, 0) == ""
    assert function_log.rotate(log) is False


def test_rotation_keeps_the_records_and_the_open_file(log: Path) -> None:
    with log.open("ab", buffering=0) as writer:
        writer.write(line("before"))
        assert function_log.rotate(log, max_size=1_000_000) is False
        assert function_log.rotate(log, max_size=10) is True
        writer.write(line("after"))
    assert messages(function_log.read(log)) == ["before", "after"]
    assert log.read_bytes() == line("after")
    assert function_log.last_messages(log, 1_000_000) == "after"


@pytest.mark.parametrize("follow", [True, False])
def test_the_position_is_fixed_before_the_first_record_is_read(log: Path, follow: bool) -> None:
    log.write_bytes(line("1") + line("2"))
    ended = threading.Event()
    records = function_log.read(log, LogOptions(follow=follow, tail=1, stop=ended))
    with log.open("ab") as writer:
        writer.write(line("3"))
    # A tail of one record yields one record unless the log is followed.
    assert messages(itertools.islice(records, 2)) == (["2", "3"] if follow else ["2"])
    ended.set()
    assert list(records) == []


def test_following_continues_after_a_rotation(log: Path) -> None:
    log.write_bytes(line("one"))
    seen: list[str] = []

    def follow() -> None:
        for record in function_log.read(log, LogOptions(follow=True, tail=1)):
            seen.append(record.message)

    thread = threading.Thread(target=follow)
    thread.start()
    with log.open("ab", buffering=0) as writer:
        assert wait_for(lambda: seen == ["one"])
        second_line = line("two")
        writer.write(second_line[:10])
        time.sleep(0.15)  # the reader may see the incomplete line
        writer.write(second_line[10:])
        assert wait_for(lambda: seen == ["one", "two"])
        function_log.rotate(log, max_size=1)
        assert wait_for(lambda: log.stat().st_size == 0)
        writer.write(line("3"))
        assert wait_for(lambda: seen == ["one", "two", "3"])
    log.unlink()
    thread.join(60)
    assert not thread.is_alive()


def test_a_slow_reader_loses_no_records(log: Path) -> None:
    """Records that it had not read before a rotation are in the other file."""
    log.write_bytes(b"")
    ended, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def follow() -> None:
        for record in function_log.read(log, LogOptions(follow=True, stop=ended)):
            seen.append(record.message)
            assert go_on.wait(60)

    thread = threading.Thread(target=follow)
    thread.start()
    with log.open("ab", buffering=0) as writer:
        # More than a reader reads from the file at once.
        writer.write(b"".join(line(str(n)) for n in range(1000)))
        assert wait_for(lambda: seen == ["0"])
        function_log.rotate(log, max_size=1)
        writer.write(b"".join(line(str(n)) for n in range(1000, 1200)))
        go_on.set()
        assert wait_for(lambda: len(seen) >= 1200)
    ended.set()
    thread.join(60)
    assert not thread.is_alive()
    assert seen == [str(n) for n in range(1200)]


def test_logs_contain_prints_and_log_records(platform: ProcessPlatform, author: Author) -> None:
    code = "def handler(context, event):\n    print('printed')\n    context.logger.warn('warned')\n"
    deployment = author.deploy(author.write_code(code))
    invoke(deployment.http_port)
    assert wait_for(lambda: "warned" in messages(platform.logs(NAMESPACE, "greeter")))
    records = {record.message: record for record in platform.logs(NAMESPACE, "greeter")}
    assert records["printed"].worker == "0"
    assert abs(records["warned"].time - time.time()) < 60
    assert records["warned"].level.startswith("warn")


def test_a_tail_is_limited_while_the_log_grows(log: Path) -> None:
    log.write_bytes(b"".join(line(str(number)) for number in range(10)))
    records = function_log.read(log, LogOptions(tail=3))
    texts = [next(records).message]
    with log.open("ab") as file:
        file.write(b"".join(line(str(number)) for number in range(10, 5000)))
    assert texts + messages(records) == ["7", "8", "9"]


def test_a_deploy_shows_what_init_context_prints(platform: ProcessPlatform, author: Author) -> None:
    code = """
    def init_context(context):
        print("loading WORD")
        context.logger.info("loaded WORD")

    def handler(context, event):
        print("asked")
        return "WORD"
    """
    spec = "triggers: {web: {kind: http, numWorkers: 2}}"
    deployment = author.deploy(author.write_code(code.replace("WORD", "one"), spec=spec))
    invoke(deployment.http_port)
    author.deploy(author.write_code(code.replace("WORD", "two"), spec=spec))
    written = [text for text in author.progress if text.startswith("|")]
    # Both workers print it, and it is reported once; prints and log records have no common order.
    assert sorted(written[:2]) == ["| loaded one", "| loading one"]
    assert sorted(written[2:]) == ["| loaded two", "| loading two"]
