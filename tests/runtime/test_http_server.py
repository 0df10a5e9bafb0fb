"""The server's behaviour on the wire, under every interpreter."""

import hashlib
import json
import socket
import struct
from pathlib import Path

import pytest

from tests.runtime import interpreters
from tests.runtime.http_wire import Process, Wire, listener, serving, until
from tests.runtime.malformed import FORMS


@pytest.fixture(scope="module", params=interpreters.every(interpreters.PYPY))
def server(request):
    with serving(request.param, limits={"max_body": 8 << 20}) as process:
        yield process


def test_requests_are_answered(server: Process):
    with server.wire() as wire:
        answer = wire.ask("/inspect?a=b", b"body", "X-One: 1\r\nX-Two: 2\r\n").answer()
    assert answer.status == 200
    assert answer.headers == {
        "content-type": "application/json",
        "server": "nuclio",
        "content-length": answer.headers["content-length"],
    }
    seen = answer.json
    assert seen["headers"] == [
        ["Host", "test"],
        ["X-One", "1"],
        ["X-Two", "2"],
        ["Content-Length", "4"],
    ]
    assert seen["size"] == 4
    assert (seen["method"], seen["target"]) == ("POST", "/inspect?a=b")
    assert (seen["path"], seen["query"], seen["version"]) == ("/inspect", "a=b", "1.1")
    assert seen["keep_alive"] is True


def test_the_connection_stays_open(server: Process):
    with server.wire() as wire:
        for number in range(50):
            assert wire.ask("/echo", b"%d" % number).answer().body == b"%d" % number
        assert wire.silent()


def test_the_application_may_reply_in_any_way(server: Process):
    with server.wire() as wire:
        assert wire.ask("/later").answer().body == b"later"
        assert wire.ask("/sleep?0.01", extra="X-N: 7\r\n").answer().body == b"7"
        assert wire.ask("/big?3").answer().body == bytes(3)
        assert wire.ask("/bye").answer().closes
        assert wire.ended()
    with server.wire() as wire, pytest.raises((AssertionError, ConnectionResetError)):
        wire.ask("/none").answer()
    assert server.counts()["in_flight"] == 1


@pytest.mark.parametrize("size", [0, 1, 65_536, 262_144, 5_000_000])
def test_bodies_of_all_sizes_are_echoed(server: Process, size: int):
    body = hashlib.sha512(str(size).encode()).digest() * (size // 64 + 1)
    body = body[:size]
    pieces = [body[i : i + 100_001] for i in range(0, size, 100_001)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    with server.wire() as wire:
        assert wire.ask("/echo", body).answer().body == body
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert wire.send(chunked, b"0\r\n\r\n").answer().body == body
        assert wire.ask("/echo", b"next").answer().body == b"next"


def test_pipelined_requests_are_answered_in_order(server: Process):
    with server.wire() as wire:
        for number in range(60):
            wait = "/sleep?0.01" if number % 20 == 0 else "/sleep?0"
            wire.ask(wait, extra=f"X-N: {number}\r\n")
        assert [wire.answer().body for _ in range(60)] == [b"%d" % n for n in range(60)]


def test_requests_may_arrive_byte_by_byte(server: Process):
    raw = b"\r\nPOST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"
    with server.wire() as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            wire.send(*[raw[i : i + 1] for i in range(len(raw))])
            assert wire.answer().body == b"hello"


def test_http_1_0(server: Process):
    with server.wire() as wire:
        wire.send(b"GET /inspect HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = wire.answer()
        assert answer.headers["connection"] == "keep-alive"
        assert answer.json["version"] == "1.0"
        wire.send(b"GET /inspect HTTP/1.0\r\n\r\n")
        assert wire.answer().closes
        assert wire.ended()


def test_the_client_may_request_a_close(server: Process):
    with server.wire() as wire:
        assert wire.ask("/echo", b"x", "Connection: close\r\n").answer().closes
        assert wire.ended()


def test_head_has_the_length_and_no_body(server: Process):
    with server.wire() as wire:
        answer = wire.ask("/big?1000", method="HEAD").answer(to_head=True)
        assert answer.headers["content-length"] == "1000"
        assert wire.ask("/echo", b"x").answer().body == b"x"


@pytest.mark.parametrize(("status", "length"), [(204, None), (304, "4")])
def test_statuses_without_a_body(server: Process, status: int, length: str | None):
    with server.wire() as wire:
        answer = wire.ask(f"/status?{status}").answer()
        assert answer.status == status
        assert answer.headers.get("content-length") == length
        assert wire.ask("/echo", b"x").answer().body == b"x"


def test_unusual_statuses_are_sent(server: Process):
    with server.wire() as wire:
        assert wire.ask("/status?299").answer().status == 299
        assert wire.ask("/status?999").answer().status == 999
        assert wire.ask("/status?42").answer().status == 500


EXPECT = b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-Continue\r\n"


def test_continue_is_sent_if_the_body_is_read(server: Process):
    with server.wire() as wire:
        wire.send(EXPECT + b"Content-Length: 5\r\n\r\n")
        assert wire.answer().status == 100
        assert wire.send(b"hello").answer().body == b"hello"
        wire.send(EXPECT + b"Transfer-Encoding: chunked\r\n\r\n")
        assert wire.answer().status == 100
        assert wire.send(b"0\r\n\r\n").answer().body == b""


def test_continue_is_not_sent_if_the_client_does_not_wait(server: Process):
    with server.wire() as wire:
        assert wire.send(EXPECT + b"Content-Length: 5\r\n\r\nhello").answer().body == b"hello"
        assert wire.send(EXPECT + b"Content-Length: 0\r\n\r\n").answer().status == 200
        wire.send(EXPECT.replace(b"1.1", b"1.0") + b"Content-Length: 5\r\n\r\n")
        assert wire.silent()
        assert wire.send(b"hello").answer().body == b"hello"
    with server.wire() as wire:
        assert wire.send(EXPECT + b"Content-Length: 99999999\r\n\r\n").answer().status == 413


def test_malformed_requests_are_refused_and_the_connection_ends(server: Process):
    wrong = []
    for name, raw, status in FORMS:
        with server.wire() as wire:
            # A request before it shows that the refusal comes after its reply.
            wire.ask("/echo", b"first")
            wire.send(raw)
            first, refused = wire.answer(), wire.answer()
            good = first.body == b"first" and refused.status == status and refused.closes
            if not (good and refused.json["error"] and wire.ended()):
                wrong.append((name, refused))
    assert not wrong
    assert server.counts()["refusals"].count(400) >= 60
    until(lambda: server.counts()["connections"] == 1, "every refused connection is gone")


def test_nothing_after_a_refused_request_is_served(server: Process):
    smuggled = b"POST /raise HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"
    before = len(server.counts()["errors"])
    with server.wire() as wire:
        wire.send(
            b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled
        )
        assert wire.answer().status == 400
        assert wire.ended()
    assert len(server.counts()["errors"]) == before


def test_too_large_bodies_get_a_readable_reply(server: Process):
    with server.wire() as wire:
        # The client writes the whole body before it reads, so the server has to receive it.
        answer = wire.ask("/echo", bytes(30_000_000)).answer()
        assert answer.status == 413
        assert answer.closes
        for part in ("30000000 bytes", "8388608 bytes", "maxRequestBodySize"):
            assert part in answer.json["error"]
        assert wire.ended()
    with server.wire() as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        answer = wire.send(*[chunk] * 12).answer()
        assert answer.status == 413
        assert "maxRequestBodySize" in answer.json["error"]


def test_errors_of_the_application(server: Process):
    with server.wire() as wire:
        answer = wire.ask("/raise").answer()
        assert (answer.status, answer.closes) == (500, True)
        assert "ValueError: raised at once" in answer.json["error"]
        assert wire.ended()
    with server.wire() as wire:
        answer = wire.ask("/fail").answer()
        assert (answer.status, answer.closes) == (500, True)
        assert "ValueError: raised later" in answer.json["error"]
        assert wire.ended()
    with server.wire() as wire:
        answer = wire.ask("/text").answer()
        assert answer.status == 500
        assert "must be bytes, not str" in answer.json["error"]
    logged = server.counts()["errors"]
    assert any("the application failed at POST /fail" in line for line in logged)


def test_headers_of_replies(server: Process):
    headers = [
        ["X-Line", "one\r\nX-Injected: two"],
        ["X-Latin", "ä"],
        ["X-Wide", "€"],
        ["Content-Length", "999"],
        ["Transfer-Encoding", "chunked"],
        ["Connection", "upgrade"],
        ["Server", "mine"],
    ]
    with server.wire() as wire:
        answer = wire.ask("/reply", json.dumps(headers).encode()).answer()
        assert answer.headers == {
            "x-line": "one  X-Injected: two",
            "x-latin": "ä",
            "x-wide": "€".encode().decode("latin-1"),
            "server": "mine",
            "content-length": "2",
        }
    for name in ("", "A B", "A:", "A\r\nB", "ä"):
        with server.wire() as wire:
            answer = wire.ask("/reply", json.dumps([[name, "x"]]).encode()).answer()
            assert answer.status == 500
            assert "cannot be the name of a header" in answer.json["error"]
            assert wire.ended()


def test_half_closed_connections_get_their_replies(server: Process):
    with server.wire() as wire:
        wire.ask("/sleep?0.05", extra="X-N: 1\r\n").ask("/echo", b"2")
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.answer().body == b"1"
        assert wire.answer().body == b"2"
        assert wire.ended()
    for unfinished in (b"GET / HT", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nx"):
        for before in (0, 1):
            with server.wire() as wire:
                for _ in range(before):
                    wire.ask("/sleep?0.05")
                wire.send(unfinished)
                wire.sock.shutdown(socket.SHUT_WR)
                for _ in range(before):
                    assert wire.answer().status == 200
                assert "ended inside the request" in wire.answer().json["error"]
                assert wire.ended()


def reset(wire: Wire) -> None:
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.sock.close()


def test_reset_connections_leave_no_state(server: Process):
    reset(server.wire())
    reset(server.wire().send(b"GET / HTTP/1.1\r\nHo"))
    reset(server.wire().send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx"))
    reset(server.wire().ask("/sleep?0.2"))
    reset(server.wire().ask("/big?50000000"))
    reset(server.wire().ask("/big?50000000").ask("/big?50000000"))
    until(lambda: server.counts()["connections"] == 1, "the reset connections are gone")
    until(lambda: server.counts()["in_flight"] == 1, "their requests are over")


def test_commands_are_lines_that_are_not_http(tmp_path: Path):
    path = str(tmp_path / "control.sock")
    with listener(path) as listening, serving(None, listening) as server:
        with server.wire() as wire:
            wire.send(b"LISTENERS\n")
            _, rights, _, _ = wire.sock.recvmsg(10, socket.CMSG_SPACE(4))
            ((_, kind, data),) = rights
            assert kind == socket.SCM_RIGHTS
            with socket.socket(fileno=struct.unpack("i", data[:4])[0]) as received:
                assert received.getsockname() == path
            assert wire.ended()
        with server.wire() as wire:
            assert wire.send(b"LISTENER\n").answer().status == 400
        with server.wire() as wire:
            wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n")
            assert wire.silent(0.05)
            assert wire.send(b"PAUSE\n").answer().body == b"PAUSE\n"
        with server.wire() as wire:
            wire.send(b"LISTEN")
            assert wire.silent(0.05)
            wire.send(b"ERS\n")
            assert wire.sock.recv(10) == b"x"
        with server.wire() as wire:
            assert wire.ask("/inspect").answer().json["method"] == "POST"
