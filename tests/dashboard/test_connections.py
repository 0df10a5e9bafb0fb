"""Connections that never send a complete request."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fnbuild.dashboard.server import LimitedConnection, _Server
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

LIMIT = 2.0
PATIENCE = 60
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
_SLOW = threading.Event()


async def _slow(request: Request) -> Response:
    await asyncio.to_thread(_SLOW.wait)
    return PlainTextResponse("late")


async def _length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _refused(request: Request) -> Response:
    return PlainTextResponse("no", 401)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """A server like the dashboard's, with short limits."""
    monkeypatch.setattr(LimitedConnection, "HEAD_SECONDS", LIMIT)
    monkeypatch.setattr(LimitedConnection, "MAX_CONNECTIONS", 3)
    _SLOW.clear()
    routes = [
        Route("/", _length, methods=["GET", "POST"]),
        Route("/slow", _slow),
        Route("/refused", _refused, methods=["POST"]),
    ]
    http_server = _Server(Starlette(routes=routes))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: http_server.run([listening]))
        thread.start()
        until(lambda: http_server.started, "the server listens")
        yield http_server
        _SLOW.set()
        http_server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def _connected(server: _Server) -> socket.socket:
    return socket.create_connection(server.servers[0].sockets[0].getsockname(), PATIENCE)


def read_to_end(client: socket.socket) -> bytes:
    """Read until the server closes the connection; fail if it does not."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def _reply(client: socket.socket) -> bytes:
    """Read one reply with a short body."""
    held = b""
    while not held.partition(b"\r\n\r\n")[2]:
        part = client.recv(65536)
        assert part, held
        held += part
    return held


def test_a_client_that_sends_nothing_is_disconnected(server: _Server) -> None:
    with _connected(server) as client:
        assert read_to_end(client) == b""
    until(lambda: not server.server_state.connections, "nothing is held")


def test_incomplete_headers_are_answered_with_408(server: _Server) -> None:
    with _connected(server) as client:
        client.sendall(HEAD)
        assert read_to_end(client).startswith(
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
        )
    until(lambda: not server.server_state.connections, "nothing is held")


def test_occasional_bytes_do_not_extend_the_deadline(server: _Server) -> None:
    # One byte per wait: the connection would stay open as long as bytes arrive.
    with _connected(server) as client:
        client.sendall(HEAD)
        client.settimeout(LIMIT / 5)
        for _ in range(100):
            try:
                client.sendall(b"X")
                assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("the head may take for ever")


def test_incomplete_headers_after_a_reply(server: _Server) -> None:
    with _connected(server) as client:
        client.sendall(HEAD + b"\r\n")
        assert _reply(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(HEAD)
        assert read_to_end(client).startswith(b"HTTP/1.1 408 ")


def test_an_incomplete_body_of_an_answered_request(server: _Server) -> None:
    with _connected(server) as client:
        client.sendall(b"POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        assert _reply(client).startswith(b"HTTP/1.1 401 ")
        client.sendall(b"2")
        assert read_to_end(client) == b""


def test_a_complete_request_may_be_handled_for_longer(server: _Server) -> None:
    with _connected(server) as client, _connected(server) as idle:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        # Opened later and idle: once it is closed, the deadline of the other has passed, too.
        assert read_to_end(idle) == b""
        _SLOW.set()
        reply = read_to_end(client)
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert reply.endswith(b"late")


def test_a_body_has_its_own_deadline(server: _Server) -> None:
    with _connected(server) as client, _connected(server) as idle:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab")
        assert read_to_end(idle) == b""
        client.sendall(b"cd")
        assert _reply(client).endswith(b"\r\n\r\n4")


def test_the_number_of_connections_is_limited(server: _Server) -> None:
    held = [_connected(server) for _ in range(3)]
    for client in held:  # each is served, so that the server has accepted it
        client.sendall(HEAD + b"\r\n")
        assert _reply(client).startswith(b"HTTP/1.1 200 ")
    with _connected(server) as beyond:
        assert read_to_end(beyond).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    held.pop().close()
    until(lambda: len(server.server_state.connections) < 3, "there is room again")
    with _connected(server) as extra:
        extra.sendall(HEAD + b"\r\n")
        assert _reply(extra).startswith(b"HTTP/1.1 200 ")
    for client in held:
        client.close()
