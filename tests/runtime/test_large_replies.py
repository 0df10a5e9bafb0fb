"""Replies of hundreds of megabytes delay no other requests and are never held in full."""

from __future__ import annotations

import hashlib
import http.client
import os
import resource
import signal
import threading
import time
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE, eventually
from tests.runtime.test_streaming import Connection, rss

pytestmark = pytest.mark.system

MIB = 1024 * 1024
HANDLER = """
def handler(context, event):
    size = int(event.path.strip("/") or 0)
    if not size:
        return "small"
    pattern = bytes(bytearray(range(251)))
    return context.Response(body=(pattern * (size // 251 + 1))[:size], content_type="a/b")
"""


def expected(size: int) -> str:
    pattern = bytes(range(251))
    return hashlib.sha256((pattern * (size // 251 + 1))[:size]).hexdigest()


def digest(response: http.client.HTTPResponse) -> str:
    seen = hashlib.sha256()
    while piece := response.read(MIB):
        seen.update(piece)
    return seen.hexdigest()


def test_other_requests_are_served_quickly_and_memory_is_bounded(serve: Any) -> None:
    size = 300 * MIB
    function = serve(HANDLER, workers=2)
    function.send()
    memory = rss(function.pid)
    seconds: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            assert function.send().body == b"small"
            seconds.append(time.monotonic() - began)

    other = threading.Thread(target=ask)
    most = memory
    with Connection(function, f"/{size}") as connection:
        other.start()
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        assert response.getheader("content-length") == str(size)
        seen = hashlib.sha256()
        count = 0
        while piece := response.read(4 * MIB):
            seen.update(piece)
            count += 1
            if count % 15 == 0:
                most = max(most, rss(function.pid))
                time.sleep(0.02)
    over.set()
    other.join()
    assert seen.hexdigest() == expected(size)
    assert most - memory < 32 * MIB
    assert len(seconds) > 20
    assert sorted(seconds)[len(seconds) // 2] < 0.1
    assert max(seconds) < 1.0


def test_a_client_that_reads_nothing_occupies_no_worker(serve: Any) -> None:
    function = serve(HANDLER)
    with Connection(function, f"/{50 * MIB}") as connection:
        assert connection.sock.recv(12) == b"HTTP/1.1 200"
        assert function.send().body == b"small"
        assert function.status()["connections"] >= 1
    eventually(lambda: function.status()["connections"] == 0)
    assert function.send().body == b"small"


@pytest.mark.parametrize("version", interpreters.few())
def test_every_interpreter(serve: Any, version: str) -> None:
    function = serve(HANDLER, version=version)
    # Around the size from which a body is in shared memory.
    for size in (4 * MIB - 1, 4 * MIB, 20 * MIB + 17):
        answer = function.send(path=f"/{size}")
        assert hashlib.sha256(answer.body).hexdigest() == expected(size)
        assert answer.header("content-type") == "a/b"
        assert "handler;dur=" in str(answer.header("server-timing"))
    answer = function.send(path=f"/{5 * MIB}", method="HEAD")
    assert (answer.status, answer.header("content-length")) == (200, str(5 * MIB))


def test_without_shared_memory_the_reply_is_sent_in_pieces(serve: Any) -> None:
    size = 30 * MIB
    function = serve(HANDLER)
    resource.prlimit(function.pid, resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    memory = rss(function.pid)
    with Connection(function, f"/{size}") as connection:
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        assert response.getheader("content-length") == str(size)
        assert function.status()["workers"][0]["state"] == "busy"
        assert rss(function.pid) - memory < 16 * MIB
        assert digest(response) == expected(size)
    with Connection(function, f"/{size}") as connection:
        assert connection.sock.recv(100)
    assert function.send().body == b"small"


@pytest.mark.parametrize("size", [2000, 5 * MIB])
def test_the_error_names_the_limit(serve: Any, size: int) -> None:
    function = serve(HANDLER, trigger={"attributes": {"maxReplyBodySize": 1000}})
    assert function.send(path="/1000").status == 200
    answer = function.send(path=f"/{size}")
    assert answer.status == 500
    text = answer.body.decode()
    assert f"has {size} bytes, and the limit is 1000 bytes; raise maxReplyBodySize" in text


def test_the_limit_applies_to_generators(serve: Any) -> None:
    function = serve(
        """
        def handler(context, event):
            for _ in range(10):
                yield "x" * 200
        """,
        trigger={"attributes": {"maxReplyBodySize": 1000}},
    )
    with Connection(function, "/") as connection:
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        with pytest.raises(http.client.IncompleteRead) as raised:
            response.read()
    assert raised.value.partial == b"x" * 1000
    function.await_record("it has 1200 bytes, and the limit is 1000 bytes", level="error")


def test_a_reply_is_complete_if_its_worker_ends_meanwhile(serve: Any) -> None:
    size = 50 * MIB
    function = serve(HANDLER)
    with Connection(function, f"/{size}") as connection:
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        worker = function.status()["workers"][0]
        assert worker["state"] == "ready"
        os.kill(worker["pid"], signal.SIGKILL)
        eventually(lambda: function.status()["workers"][0]["restarts"] == 1, PATIENCE)
        assert digest(response) == expected(size)
