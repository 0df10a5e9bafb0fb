"""Connections that never send a whole request."""

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
    made = _Server(Starlette(routes=routes))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: made.run([listening]))
        thread.start()
        until(lambda: made.started, "the server listens")
        yield made
        _SLOW.set()
        made.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def _connected(server: _Server) -> socket.socket:
    return socket.create_connection(server.servers[0].sockets[0].getsockname(), PATIENCE)


def _rest(client: socket.socket) -> bytes:
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


def test_a_client_that_says_nothing_is_left(server: _Server) -> None:
    with _connected(server) as client:
        assert _rest(client) == b""
    until(lambda: not server.server_state.connections, "nothing is held")


def test_half_a_head_is_answered_408(server: _Server) -> None:
    with _connected(server) as client:
        client.sendall(HEAD)
        assert _rest(client).startswith(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n")
    until(lambda: not server.server_state.connections, "nothing is held")


def test_bytes_now_and_then_do_not_prolong_it(server: _Server) -> None:
    # A byte each time the server was waited for: it would go on for as long as bytes come.
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


def test_half_a_head_behind_a_reply(server: _Server) -> None:
    with _connected(server) as client:
        client.sendall(HEAD + b"\r\n")
        assert _reply(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(HEAD)
        assert _rest(client).startswith(b"HTTP/1.1 408 ")


def test_half_a_body_of_an_answered_request(server: _Server) -> None:
    with _connected(server) as client:
        client.sendall(b"POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        assert _reply(client).startswith(b"HTTP/1.1 401 ")
        client.sendall(b"2")
        assert _rest(client) == b""


def test_a_whole_head_may_be_worked_on_for_longer(server: _Server) -> None:
    with _connected(server) as client, _connected(server) as idle:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        # Opened behind it, and left: so the limit of the other is over, too.
        assert _rest(idle) == b""
        _SLOW.set()
        reply = _rest(client)
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert reply.endswith(b"late")


def test_a_body_has_time_of_its_own(server: _Server) -> None:
    with _connected(server) as client, _connected(server) as idle:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab")
        assert _rest(idle) == b""
        client.sendall(b"cd")
        assert _reply(client).endswith(b"\r\n\r\n4")


def test_beyond_the_most_connections(server: _Server) -> None:
    held = [_connected(server) for _ in range(3)]
    for one in held:  # each is served, so that it is known to be there
        one.sendall(HEAD + b"\r\n")
        assert _reply(one).startswith(b"HTTP/1.1 200 ")
    with _connected(server) as beyond:
        assert _rest(beyond).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    held.pop().close()
    until(lambda: len(server.server_state.connections) < 3, "there is room again")
    with _connected(server) as another:
        another.sendall(HEAD + b"\r\n")
        assert _reply(another).startswith(b"HTTP/1.1 200 ")
    for one in held:
        one.close()
