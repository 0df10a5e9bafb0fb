"""Replies of generators, and clients that are slow or disconnect."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE, Running, eventually

pytestmark = pytest.mark.system

HANDLER = """
import asyncio
import os
import time

STATE = {"closed": 0, "yielded": 0}


def step(name):
    # The test creates the file when the generator may go on.
    deadline = time.time() + 60
    while not os.path.exists(name):
        assert time.time() < deadline
        time.sleep(0.005)


def stepwise(context, event):
    yield context.Response(body="first,", status_code=202, headers={"X-A": "b"}, content_type="a/b")
    step(event.headers["X-Step"])
    yield b"second,"
    yield {"third": 3}
    yield ""
    yield context.Response(body="last", status_code=500)


async def stepwise_async(context, event):
    yield "first,"
    while not os.path.exists(event.headers["X-Step"]):
        await asyncio.sleep(0.005)
    yield "last"


def endless(context, event):
    try:
        while True:
            STATE["yielded"] += 1
            yield b"x" * int(event.headers.get("X-Size", 10))
            time.sleep(float(event.headers.get("X-Pause", 0.005)))
    finally:
        STATE["closed"] += 1
        print("the generator was closed")


async def waiting(context, event):
    try:
        yield "first"
        await asyncio.sleep(600)
        yield "never"
    finally:
        STATE["closed"] += 1
        print("the generator was closed")


def failing(context, event):
    yield "first"
    yield "second"
    raise ValueError("no more of this")


def failing_at_once(context, event):
    if event:
        raise ValueError("not even one")
    yield "never"


def failing_to_close(context, event):
    try:
        while True:
            yield "x" * 1000
    finally:
        raise ValueError("cannot be closed")


def dying(context, event):
    yield "first"
    os._exit(3)


def large(context, event):
    yield b"a" * 5000000
    yield b"b" * 5000000


def nothing(context, event):
    return
    yield


def numbers(context, event):
    for number in range(20000):
        yield str(number)


async def returning(context, event):
    return context.Response(body=stepwise_async(context, event), content_type="text/csv")


def lines(context, event):
    items = ({"line": number} for number in range(2))
    return context.Response(body=items, status_code=201, content_type="application/x-ndjson")


def objects(context, event):
    return context.Response(body=({"line": number} for number in range(2)))


def pair(context, event):
    return 202, (text for text in ("one,", "two"))


def wrong_pair(context, event):
    return "many", endless(context, event)


def handler(context, event):
    name = event.path.strip("/")
    if name == "state":
        return STATE
    return globals()[name](context, event)
"""


class Connection:
    """A connection that reads only on request."""

    def __init__(self, function: Running, path: str, version: str = "1.1", **headers: str) -> None:
        port = int(function.url.rpartition(":")[2])
        self.sock = socket.socket()
        # With a small buffer, a client that reads nothing blocks the sender soon.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        lines = [f"GET {path} HTTP/{version}", "Host: x"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def until(self, ending: bytes) -> bytes:
        data = b""
        while not data.endswith(ending):
            more = self.sock.recv(65536)
            assert more, data
            data += more
        return data

    def read_rest(self) -> bytes:
        data = b""
        while more := self.sock.recv(65536):
            data += more
        return data

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def rss(pid: int) -> int:
    """Return the memory of a process in bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.fixture(scope="module")
def processor(serve_module: Any) -> Any:
    return serve_module(HANDLER)


def closed(function: Running) -> int:
    return int(function.call(path="/state")["closed"])


def test_items_are_sent_while_the_generator_runs(processor: Any, tmp_path: Path) -> None:
    step = tmp_path / "step"
    with Connection(processor, "/stepwise", X_Step=str(step)) as connection:
        head, _, body = connection.until(b"6\r\nfirst,\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202 ")
        lines = head.lower().split(b"\r\n")
        assert b"transfer-encoding: chunked" in lines
        assert b"x-a: b" in lines
        assert b"content-type: a/b" in lines
        assert not any(line.startswith(b"content-length") for line in lines)
        assert body == b"6\r\nfirst,\r\n"
        assert processor.status()["workers"][0]["state"] == "busy"
        step.touch()
        remainder = connection.until(b"0\r\n\r\n")
        assert remainder == b'7\r\nsecond,\r\nc\r\n{"third": 3}\r\n4\r\nlast\r\n0\r\n\r\n'
        # The connection serves the next request.
        connection.sock.sendall(b"GET /state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.read_rest().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["stepwise_async", "returning"])
def test_async_items_are_sent_while_the_generator_runs(
    processor: Any, tmp_path: Path, path: str
) -> None:
    step = tmp_path / "step"
    with Connection(processor, "/" + path, X_Step=str(step)) as connection:
        head = connection.until(b"6\r\nfirst,\r\n")
        assert (b"Content-Type: text/csv" in head) == (path == "returning")
        step.touch()
        assert connection.until(b"0\r\n\r\n") == b"4\r\nlast\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        ("lines", 201, "application/x-ndjson", b'{"line": 0}{"line": 1}'),
        ("objects", 200, "application/json", b'{"line": 0}{"line": 1}'),
        ("pair", 202, "text/plain", b"one,two"),
    ],
)
def test_a_generator_is_the_body_of_a_response_or_a_pair(
    processor: Any, path: str, status: int, kind: str, body: bytes
) -> None:
    answer = processor.send(path=f"/{path}")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (status, kind, body)


def test_a_generator_in_an_invalid_pair_is_an_error(processor: Any) -> None:
    answer = processor.send(path="/wrong_pair")
    assert answer.status == 500
    assert b"'many' is not a number" in answer.body


def test_http_1_0_is_delimited_by_the_end_of_the_connection(processor: Any, tmp_path: Path) -> None:
    step = tmp_path / "step"
    with Connection(processor, "/stepwise_async", "1.0", X_Step=str(step)) as connection:
        head = connection.until(b"\r\n\r\nfirst,").lower()
        assert b"transfer-encoding" not in head
        assert b"content-length" not in head
        assert b"connection: close" in head
        step.touch()
        assert connection.read_rest() == b"last"


def test_many_and_large_and_no_items(processor: Any) -> None:
    assert processor.send(path="/numbers").body == "".join(map(str, range(20000))).encode()
    assert processor.send(path="/large").body == b"a" * 5000000 + b"b" * 5000000
    empty = processor.send(path="/nothing")
    assert (empty.status, empty.body) == (200, b"")
    answer = processor.send(path="/endless", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert processor.call(path="/state")


@pytest.mark.parametrize("path", ["endless", "waiting"])
def test_a_disconnected_client_ends_the_generator(processor: Any, path: str) -> None:
    before = closed(processor)
    with Connection(processor, "/" + path) as connection:
        connection.until(b"\r\n")
    assert closed(processor) == before + 1
    processor.await_record("the generator was closed", name="stdout")
    assert processor.status()["workers"][0]["restarts"] == 0


def test_a_slow_client_slows_the_generator_down(processor: Any) -> None:
    before = processor.call(path="/state")["yielded"]
    memory = rss(processor.pid)
    with Connection(processor, "/endless", X_Size="100000", X_Pause="0") as connection:
        connection.until(b"\r\n")
        # Without back pressure it would have produced gigabytes by then.
        time.sleep(0.5)
        assert rss(processor.pid) - memory < 20_000_000
    produced = processor.call(path="/state")["yielded"] - before
    assert 0 < produced * 100_000 < 20_000_000


@pytest.mark.parametrize("path", ["failing", "dying"])
def test_an_error_in_the_middle_ends_the_connection_without_the_final_chunk(
    serve: Any, path: str
) -> None:
    processor = serve(HANDLER)
    for version, error in (("1.1", http.client.IncompleteRead), ("1.0", ConnectionResetError)):
        processor.await_workers("ready")
        with Connection(processor, "/" + path, version) as connection:
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            assert response.status == 200
            with pytest.raises(error):
                response.read()
    if path == "failing":
        message = processor.await_record("no more of this", level="error")["message"]
        assert "Traceback" in message
        assert 'raise ValueError("no more of this")' in message
        assert processor.status()["workers"][0]["restarts"] == 0
    else:
        processor.await_record("exit code 3")


def test_an_error_before_the_first_item_is_an_error_reply(processor: Any) -> None:
    answer = processor.send(path="/failing_at_once")
    assert answer.status == 500
    assert b"not even one" in answer.body


def test_a_generator_that_cannot_be_closed_keeps_the_worker(processor: Any) -> None:
    with Connection(processor, "/failing_to_close") as connection:
        connection.until(b"\r\n")
    processor.await_record("cannot be closed", level="error")
    assert processor.call(path="/state")
    assert processor.status()["workers"][0]["restarts"] == 0


def test_the_event_timeout_applies(serve: Any) -> None:
    function = serve(HANDLER, event_timeout=0.5)
    with Connection(function, "/endless") as connection:
        data = connection.read_rest()
    assert data
    assert not data.endswith(b"0\r\n\r\n")
    function.await_record("took longer than 0.5 s (eventTimeout)")
    function.await_workers("ready")


def test_a_drain_waits_for_the_last_item(serve: Any, tmp_path: Path) -> None:
    step = tmp_path / "step"
    function = serve(HANDLER)
    with Connection(function, "/stepwise_async", X_Step=str(step)) as connection:
        connection.until(b"6\r\nfirst,\r\n")
        function.process.terminate()
        function.await_record("Draining")
        step.touch()
        assert connection.read_rest() == b"4\r\nlast\r\n0\r\n\r\n"
    assert function.process.wait(PATIENCE) == 0


def test_batches_and_cron_triggers_collect_the_items(serve: Any) -> None:
    source = """
        def parts():
            yield "one "
            yield "two"


        def handler(context, event):
            return responses(context, event) if isinstance(event, list) else by_the_clock()


        def responses(context, events):
            for event in events:
                response = context.Response(body=parts())
                response.event_id = event.id
                yield response


        def by_the_clock():
            yield "a"
            print("by the clock")
            yield "b"
        """
    triggers = {
        "web": {"kind": "http", "batch": {"size": 2, "timeout": 0.01}},
        "clock": {"kind": "cron", "attributes": {"interval": 0.05}},
    }
    function = serve(source, triggers=triggers)
    answer = function.send("x")
    assert (answer.status, answer.body) == (200, b"one two")
    eventually(lambda: len(function.records(message="by the clock")) > 1)
    assert not function.records(level="warn")


@pytest.mark.parametrize("version", interpreters.few())
def test_every_interpreter(serve: Any, version: str, tmp_path: Path) -> None:
    function = serve(HANDLER, version=version)
    step = tmp_path / "step"
    for path in ("stepwise", "stepwise_async"):
        with Connection(function, "/" + path, X_Step=str(step)) as connection:
            connection.until(b"6\r\nfirst,\r\n")
            step.touch()
            connection.until(b"4\r\nlast\r\n0\r\n\r\n")
        step.unlink()
    for path in ("endless", "waiting"):
        before = closed(function)
        with Connection(function, "/" + path) as connection:
            connection.until(b"\r\n")
        assert closed(function) == before + 1
