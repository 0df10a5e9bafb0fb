"""The processor's log, and the messages that carry records to it."""

from __future__ import annotations

import json
import os
import pty
import uuid
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime import wire
from fnbuild.runtime.logs import Log, LogRecord
from fnbuild.runtime.worker.channel import Channel


def written(path: Path, style: str, *records: LogRecord, level: str = "debug") -> list[str]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        log = Log(level, style, fd)
        for record in records:
            log.write(record)
    finally:
        os.close(fd)
    return path.read_text().splitlines()


def test_json_lines(tmp_path: Path) -> None:
    record = LogRecord("warn", "ünder\nlines", "handler", "1", {"count": 2, "level": "x", "o": {1}})
    record.request_id = "r"
    record.time = 1234.5678
    (line,) = written(tmp_path / "log", "auto", record)
    assert json.loads(line) == {
        "time": 1234.568,
        "level": "warn",
        "name": "handler",
        "message": "ünder\nlines",
        "worker": "1",
        "request_id": "r",
        "count": 2,
        "level_": "x",
        "o": "{1}",
    }


def test_variables_that_have_no_json(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    lines = written(
        tmp_path / "log",
        "json",
        LogRecord("info", "m", variables={"a": circle}),
        LogRecord("info", "m", variables={"a": {(1, 2): 3}}),
    )
    assert [json.loads(line)["a"] for line in lines] == ["[[...]]", "{(1, 2): 3}"]


def test_levels_below_the_configured_one_are_dropped(tmp_path: Path) -> None:
    levels = ["debug", "info", "warn", "error"]
    lines = written(tmp_path / "log", "json", *[LogRecord(n, n) for n in levels], level="warn")
    assert [json.loads(line)["level"] for line in lines] == ["warn", "error"]


def test_readable_lines(tmp_path: Path) -> None:
    record = LogRecord("error", "no model", "handler", "0", {"path": "a b", "n": 1})
    (line,) = written(tmp_path / "log", "human", record)
    assert line.endswith(' (E) w0 no model {"path": "a b", "n": 1}')
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colours(
    variables: dict[str, str], coloured: bool, monkeypatch: Any
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    controller, terminal = pty.openpty()
    try:
        Log("debug", "auto", terminal).warn("hello")
        text = os.read(controller, 1000).decode()
    finally:
        os.close(controller)
        os.close(terminal)
    assert ("\x1b[33m(W)\x1b[0m hello" in text) is coloured
    assert coloured or "(W) hello" in text


def test_a_full_disk_is_not_fatal() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        Log("debug", "json", fd).info("lost")
    finally:
        os.close(fd)


def test_messages_are_complete_whatever_the_pieces() -> None:
    messages = [
        (wire.READY, {"a": "ü", "n": [1]}, b""),
        (wire.REPLY, {"s": 200, "t": [1.5, 0.25]}, b"x" * 300),
        (wire.RECORD, {"m": "y" * 200}, bytes(range(256))),
        (wire.REPLY, {}, b""),
    ]
    stream = b""
    for kind, meta, body in messages:
        stream += wire.encode_head(kind, meta, len(body)) + body
    for size in (1, 2, 7, 12, 13, 100, 301, len(stream)):
        reader = wire.MessageReader()
        messages_: list[Any] = []
        for start in range(0, len(stream), size):
            messages_ += reader.feed(stream[start : start + size])
        assert [tuple(message) for message in messages_] == messages


def test_a_channel_carries_large_bodies_and_detects_the_end() -> None:
    import threading

    near, far = wire.socket_pair()
    sender, receiver = Channel(near), Channel(far)
    body = os.urandom(3_000_000)
    identity = str(uuid.uuid4())

    def send() -> None:
        sender.send(wire.EVENT, {"i": identity}, body)
        sender.send(wire.STOP, {})
        near.sendall(wire.HEADER.pack(wire.EVENT, 0, 2, 100) + b"{}part")
        near.close()

    thread = threading.Thread(target=send)
    thread.start()
    assert receiver.receive() == (wire.EVENT, {"i": identity}, body)
    assert receiver.receive() == (wire.STOP, {}, b"")
    assert receiver.receive() is None
    thread.join()
    far.close()


SPEAKER = """
def handler(context, event):
    context.logger.info("for those who ask")
    context.logger.warn("for everybody")
    return ""
"""


def test_the_functions_level(serve: Any) -> None:
    processor = serve(SPEAKER, log={"level": "warn", "format": "json"})
    kept = json.loads(processor.send(x_nuclio_log_level="info").header("x-nuclio-logs") or "[]")
    assert [record["message"] for record in kept] == ["for those who ask", "for everybody"]
    processor.send()
    logged = [record["message"] for record in processor.records(name="handler")]
    assert logged == ["for everybody"] * 2
