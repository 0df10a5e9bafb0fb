"""Deadlines, memory and descriptors: the limits for one client."""

import contextlib
import json
import socket
import time

import pytest

from tests.runtime import interpreters
from tests.runtime.http_wire import DEADLINE, Process, serving, until

pytestmark = pytest.mark.system

MEGABYTE = 1 << 20

SHORT = {"head_timeout": 1.0, "body_timeout": 1.0, "write_timeout": 1.0, "linger_timeout": 1.0}


@pytest.fixture(scope="module", params=interpreters.few())
def hasty(request):
    with serving(request.param, limits={**SHORT, "max_body": 64 * MEGABYTE}) as process:
        yield process


def test_slow_headers_end_with_408(hasty: Process):
    with hasty.wire() as wire:
        wire.ask("/echo", b"x").answer()
        end = time.monotonic() + 60
        # Bytes that keep coming do not prolong the deadline.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 1000:
                assert time.monotonic() < end
                wire.send(bytes([byte]))
                time.sleep(0.01)
                if wire.left or not wire.silent(0.001):
                    break
        answer = wire.answer()
        assert (answer.status, answer.closes) == (408, True)
        assert "head did not arrive within 1 s" in answer.json["error"]
        assert wire.ended()


@pytest.mark.parametrize(
    "start",
    [
        b"Content-Length: 10\r\n\r\n12345",
        b"Content-Length: 10\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n123",
        b"Content-Length: 30000000\r\n\r\n" + bytes(3_000_000),
    ],
    ids=["begun", "not begun", "in chunks", "large"],
)
def test_stalled_bodies_end_in_408(hasty: Process, start: bytes):
    with hasty.wire() as wire:
        answer = wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\n" + start).answer()
        assert (answer.status, answer.closes) == (408, True)
        assert wire.ended()


def test_truncated_large_bodies(hasty: Process):
    with hasty.wire() as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 30000000\r\n\r\n")
        wire.send(bytes(3_000_000))
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 400
        assert wire.ended()


@pytest.fixture
def patient():
    """A timeout longer than the pauses of a client and shorter than a slow transfer."""
    with serving(limits={"body_timeout": 3.0, "write_timeout": 3.0}) as process:
        yield process


def test_slow_bodies_with_progress_are_accepted(patient: Process):
    with patient.wire() as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\n\r\n")
        for byte in b"hello, world":
            wire.send(bytes([byte]))
            time.sleep(0.3)
        assert wire.answer().body == b"hello, world"


def test_idle_connections_stay_open(hasty: Process):
    with hasty.wire() as fresh, hasty.wire() as used:
        used.ask("/echo", b"x").answer()
        # A line break after a request starts no request, even in two pieces.
        used.send(b"\r")
        time.sleep(0.05)
        used.send(b"\n\r\n")
        assert fresh.silent(1.5)
        assert used.silent(0.01)
        assert fresh.ask("/echo", b"1").answer().body == b"1"
        assert used.ask("/echo", b"2").answer().body == b"2"


def test_clients_that_do_not_read_are_disconnected(hasty: Process):
    for extra in ("", "Connection: close\r\n"):
        with hasty.wire(receive_buffer=4096) as wire:
            wire.ask("/big?60000000", extra=extra)
            until(lambda: hasty.counts()["connections"] == 1, "the connection is cut")


def test_slow_clients_get_complete_replies(patient: Process):
    with patient.wire(receive_buffer=65536) as wire:
        wire.ask("/big?6000000", extra="Connection: close\r\n")
        got = 0
        began = time.monotonic()
        while data := wire.sock.recv(400_000):
            got += len(data)
            time.sleep(0.1)
        assert time.monotonic() - began > 3, "it was not slow"
        assert got > 6_000_000


def test_a_refused_client_that_keeps_sending_is_disconnected(hasty: Process):
    with hasty.wire() as wire:
        assert wire.ask("/echo", b"", "Content-Length: 1\r\n").answer().status == 400
        assert wire.ended()
        until(lambda: hasty.counts()["connections"] == 1, "the connection is cut")


def test_pipelined_floods_stop_at_the_socket(hasty: Process):
    request = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    with hasty.wire() as wire:
        wire.ask("/hold")
        wire.sock.settimeout(0.5)
        taken = 0
        with contextlib.suppress(TimeoutError):
            while taken < 64 * MEGABYTE and taken % len(request) == 0:
                taken += wire.sock.send(request)
        # Data that the server and the kernel's buffers do not accept stays with the client.
        assert taken < 32 * MEGABYTE
        wire.sock.settimeout(DEADLINE)
        with hasty.wire() as other:
            assert other.ask("/release").answer().status == 200
        assert wire.answer().body == b"released"
        for _ in range(taken // len(request)):
            assert wire.answer().body == b"x" * 1000


def test_pipelined_floods_do_not_delay_others(hasty: Process):
    with hasty.wire() as busy, hasty.wire() as greedy, hasty.wire() as modest:
        # Meanwhile all data arrives.
        busy.ask("/block?2")
        time.sleep(0.3)
        greedy.send(b"GET /order?greedy HTTP/1.1\r\nHost: test\r\n\r\n" * 500)
        modest.ask("/order?modest")
        order = modest.answer().json
        assert order.index("modest") - order.index("greedy") <= 32
        for _ in range(500):
            greedy.answer()


def test_replies_are_not_buffered_for_a_slow_reader():
    with serving(limits={"max_body": 64 * MEGABYTE}) as server:
        before = server.counts()["rss"]
        with server.wire(receive_buffer=4096) as wire:
            for _ in range(30):
                wire.ask("/big?20000000")
            until(lambda: server.counts()["in_flight"] == 1, "the first request is answered")
            # 600 MB were requested; one reply at a time is in memory.
            assert server.counts()["rss"] - before < 100 * MEGABYTE


def test_announced_bodies_allocate_no_memory():
    with serving(limits={"max_body": 64 * MEGABYTE}) as server, contextlib.ExitStack() as stack:
        before = server.counts()["rss"]
        for _ in range(20):
            wire = stack.enter_context(server.wire())
            wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 60000000\r\n\r\nx")
        until(lambda: server.counts()["connections"] == 21, "all connections are open")
        assert server.counts()["rss"] - before < 60 * MEGABYTE


@pytest.mark.parametrize("version", interpreters.few())
def test_the_server_recovers_when_descriptors_are_free_again(version: str):
    with serving(version, files=24) as server, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(40)]
        for wire in wires:
            wire.ask("/inspect")
        until(lambda: not wires[0].silent(0.01), "the first is answered")
        for number, wire in enumerate(wires):
            # Each connection that closes admits a waiting one.
            assert wire.answer().status == 200, number
            wire.sock.close()
        errors = server.counts()["errors"]
        assert any("cannot accept connections" in line for line in errors)


def test_many_small_chunks_are_bounded_in_time(hasty: Process):
    chunked = b"1\r\nx\r\n" * 300_000
    with hasty.wire() as wire:
        wire.send(b"POST /inspect HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        started = time.monotonic()
        assert wire.send(chunked, b"0\r\n\r\n").answer().json["size"] == 300_000
        assert time.monotonic() - started < 45


def test_the_client_sees_no_reset_after_a_refusal(hasty: Process):
    refused = 0
    for _ in range(20):
        with hasty.wire() as wire:
            wire.ask("/echo", bytes(65 * MEGABYTE // 20), "Content-Length: 1\r\n")
            answer = wire.answer()
            refused += answer.status == 400 and bool(json.loads(answer.body)["error"])
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.ended()
    assert refused == 20
