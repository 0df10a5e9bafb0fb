"""Relayed requests to upstreams that behave unlike functions."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fnbuild.dashboard import relay
from fnbuild.dashboard.function_entries import FunctionEntry, function_entry
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.relay import forwarded_headers
from fnbuild.errors import NotFoundError
from fnbuild.function.types import Function, Metadata
from fnbuild.platforms import Deployment, Platform
from tests.engine import free_port

pytestmark = pytest.mark.system

Talk = Callable[[socket.socket], None]
PATIENCE = 60.0


class Upstream:
    """A substitute for a function: handles each connection with `talk`."""

    def __init__(self, talk: Talk):
        self._talk = talk
        self._listening = socket.create_server(("127.0.0.1", free_port()))
        self.name = str(self._listening.getsockname()[1])
        self.connections = 0
        self.problems: list[BaseException] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link = self._listening.accept()[0]
                self.connections += 1
                threading.Thread(target=self._handle, args=(link,), daemon=True).start()

    def _handle(self, link: socket.socket) -> None:
        link.settimeout(PATIENCE)
        with link:
            try:
                self._talk(link)
            except Exception as problem:  # noqa: BLE001 - raised at the end of the test
                self.problems.append(problem)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it is already closed
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@dataclass
class Functions:
    """One function for each port: its name is the port, unless the function has moved.

    `held` are those that are reached at the moment. All need the `token` and have the `path`.
    """

    moved: dict[str, int] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    token: str = ""
    path: str = ""

    async def function(self, namespace: str, name: str) -> FunctionEntry:
        if self.moved.get(name) == 0:
            raise NotFoundError("Function not found")
        url = f"127.0.0.1:{self.moved.get(name, name)}{self.path}"
        function = Function(metadata=Metadata(name=name, namespace=namespace))
        return function_entry(Deployment(function, "process", "ready", external_urls=(url,)))

    def platform(self, name: str) -> Platform:
        members = {"reachable_url": self.reachable_url, "request_headers": self.request_headers}
        return cast(Platform, SimpleNamespace(**members))

    def request_headers(self, _: Deployment) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @contextlib.contextmanager
    def reachable_url(self, deployment: Deployment) -> Iterator[str]:
        self.held.append(deployment.url)
        yield deployment.url
        self.held.remove(deployment.url)


class Answered(NamedTuple):
    status: int
    body: bytes
    headers: Any


class Relaying:
    """A served relay whose paths all belong to the function."""

    def __init__(self, functions: Functions):
        passing = relay.Relay(cast(Inventory, functions))

        async def invoke(request: Request) -> Response:
            headers = forwarded_headers(request.scope["headers"], frozenset())
            name, path = request.path_params["name"], request.path_params["path"]
            timeout = float(request.headers.get("timeout", "10"))
            return passing.response(
                relay.Invocation("nuclio", name, path, headers, timeout=timeout)
            )

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            await passing.start()
            yield
            await passing.stop()

        methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
        app = Starlette(
            routes=[Route("/{name}/{path:path}", invoke, methods=methods)], lifespan=lifespan
        )
        listening = socket.create_server(("127.0.0.1", free_port()))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(app, http="h11", log_config=None, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve([listening])), daemon=True
        )
        self.thread.start()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, place: Upstream | str, method: str = "POST", **how: Any) -> Answered:
        name = place if isinstance(place, str) else place.name
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, f"/{name}/", **how)
            response = connection.getresponse()
            return Answered(response.status, response.read(), response.headers)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)


@pytest.fixture(scope="module")
def functions() -> Functions:
    return Functions()


@pytest.fixture(scope="module")
def relaying(functions: Functions) -> Iterator[Relaying]:
    relay_server = Relaying(functions)
    yield relay_server
    relay_server.stop()
    assert functions.held == []


Serve = Callable[[Talk], Upstream]


@pytest.fixture
def upstream() -> Iterator[Serve]:
    upstreams: list[Upstream] = []

    def serve(talk: Talk) -> Upstream:
        upstreams.append(Upstream(talk))
        return upstreams[-1]

    yield serve
    for item in upstreams:
        item.close()
        assert item.problems == []


def head(link: socket.socket) -> bytes:
    """Read the head of one request, and the part of the body that arrived with it."""
    read = b""
    while b"\r\n\r\n" not in read:
        piece = link.recv(65536)
        if not piece:
            return read
        read += piece
    return read


def read_to(link: socket.socket, end: bytes) -> None:
    """Read one request whose body ends with `end`.

    A connection that is closed with unread bytes is reset, and its reply may be lost.
    """
    read = head(link)
    while not read.endswith(end):
        read += link.recv(100)


def reply(link: socket.socket, status: str = "200 OK", body: bytes = b"", *more: str) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more, "", ""]
    link.sendall("\r\n".join(lines).encode() + body)


def test_a_function_gets_its_own_token_and_path(
    relaying: Relaying, functions: Functions, upstream: Serve
) -> None:
    heads: list[bytes] = []

    def talk(link: socket.socket) -> None:
        heads.append(head(link))
        reply(link, "200 OK", b"", "Connection: close")

    place = upstream(talk)
    functions.path, functions.token = "/predictions/eyes", "of-the-function"
    try:
        relaying.ask(place, "GET", headers={"Authorization": "Bearer of-the-caller"})
    finally:
        functions.path = functions.token = ""
    assert heads[0].startswith(b"GET /predictions/eyes HTTP/1.1")
    assert b"Bearer of-the-function" in heads[0]
    assert b"of-the-caller" not in heads[0]


def test_both_directions_stream(relaying: Relaying, upstream: Serve) -> None:
    arrived: queue.Queue[bytes] = queue.Queue()
    go_on = threading.Event()

    def talk(link: socket.socket) -> None:
        read = head(link)
        arrived.put(read.partition(b"\r\n\r\n")[2] or link.recv(100))
        arrived.put(link.recv(100))
        link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert go_on.wait(PATIENCE)
        link.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    place = upstream(talk)
    with contextlib.closing(relaying.connect()) as connection:
        connection.putrequest("POST", f"/{place.name}/")
        connection.putheader("Content-Length", "10")
        connection.endheaders()
        connection.send(b"first")
        assert arrived.get(timeout=PATIENCE) == b"first"
        connection.send(b"other")
        assert arrived.get(timeout=PATIENCE) == b"other"
        answer = connection.getresponse()
        assert answer.read(3) == b"one"
        go_on.set()
        assert answer.read() == b"two"


def test_a_body_without_a_length_is_relayed(relaying: Relaying, upstream: Serve) -> None:
    def talk(link: socket.socket) -> None:
        read = head(link)
        assert b"transfer-encoding: chunked" in read.lower()
        while not read.endswith(b"0\r\n\r\n"):
            read += link.recv(65536)
        reply(link, body=str(read.count(b"piece")).encode())

    answer = relaying.ask(upstream(talk), body=iter([b"piece"] * 7), encode_chunked=True)
    assert answer.body == b"7"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "404 Not Found"])
def test_statuses_are_relayed(relaying: Relaying, upstream: Serve, status: str) -> None:
    def talk(link: socket.socket) -> None:
        head(link)
        link.sendall(f"HTTP/1.1 {status}\r\nX-A: 1\r\nX-A: 2\r\n\r\n".encode())

    answer = relaying.ask(upstream(talk), "GET")
    assert answer.status == int(status[:3])
    assert answer.headers.get_all("X-A") == ["1", "2"]
    assert answer.body == b""


def test_redirects_are_passed_to_the_caller(relaying: Relaying, upstream: Serve) -> None:
    def talk(link: socket.socket) -> None:
        read_to(link, b"x")
        reply(link, "307 Temporary Redirect", b"", "Location: http://127.0.0.1:1/secret")

    place = upstream(talk)
    answer = relaying.ask(place, body=b"x")
    assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:1/secret")
    assert place.connections == 1


def test_compressed_bodies_are_unchanged(relaying: Relaying, upstream: Serve) -> None:
    packed = gzip.compress(b"many words")

    def talk(link: socket.socket) -> None:
        assert b"accept-encoding: gzip" in head(link).lower()
        reply(link, "200 OK", packed, "Content-Encoding: gzip", "Server: other", "Via: 1.1 x")

    answer = relaying.ask(upstream(talk), headers={"Accept-Encoding": "gzip"})
    assert answer.body == packed
    assert answer.headers["Content-Encoding"] == "gzip"


def test_no_headers_are_added_for_the_function(relaying: Relaying, upstream: Serve) -> None:
    seen: queue.Queue[bytes] = queue.Queue()

    def talk(link: socket.socket) -> None:
        seen.put(head(link))
        reply(link)

    relaying.ask(upstream(talk), "GET", headers={"X-Own": "ä"})
    names = [line.partition(b":")[0].lower() for line in seen.get().split(b"\r\n")[1:] if line]
    assert sorted(names) == [b"accept-encoding", b"host", b"x-own"]


def test_a_reply_before_the_body_is_complete(relaying: Relaying, upstream: Serve) -> None:
    def talk(link: socket.socket) -> None:
        head(link)
        reply(link, "413 Content Too Large", b"too much", "Connection: close")
        with contextlib.suppress(OSError):
            while link.recv(1 << 20):
                pass

    place = upstream(talk)
    for _ in range(3):
        answer = relaying.ask(place, body=bytes(8 << 20))
        assert (answer.status, answer.body) == (413, b"too much")


def test_a_connection_with_an_incomplete_request_is_not_reused(
    relaying: Relaying, upstream: Serve
) -> None:
    def talk(link: socket.socket) -> None:
        assert head(link).startswith(b"POST / ")
        reply(link, "400 Bad Request", b"no")  # the connection would stay open
        with contextlib.suppress(OSError):
            while link.recv(1 << 20):
                pass

    place = upstream(talk)
    with contextlib.closing(relaying.connect()) as connection:
        connection.putrequest("POST", f"/{place.name}/")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        connection.send(b"x")
        assert connection.getresponse().status == 400
    assert relaying.ask(place, body=b"x").status == 400
    assert place.connections == 2


@pytest.mark.parametrize(
    "raw_reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SSH-2.0-OpenSSH_9\r\n", b"\x00" * 200]
)
def test_an_invalid_reply(relaying: Relaying, upstream: Serve, raw_reply: bytes) -> None:
    def talk(link: socket.socket) -> None:
        head(link)
        link.sendall(raw_reply)

    place = upstream(talk)
    answer = relaying.ask(place, body=b"x")
    assert answer.status == 502
    assert json.loads(answer.body)["error"].startswith(f"{place.name} ended the connection")
    assert place.connections == 1, "a request that may have been read is not sent again"


def test_a_truncated_reply_is_relayed_as_truncated(relaying: Relaying, upstream: Serve) -> None:
    def talk(link: socket.socket) -> None:
        head(link)
        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with pytest.raises(http.client.IncompleteRead):
        relaying.ask(upstream(talk), body=b"x")


def test_a_refused_connection(relaying: Relaying, upstream: Serve) -> None:
    place = upstream(head)
    place.close()
    answer = relaying.ask(place, body=b"x")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert "cannot be reached" in json.loads(answer.body)["error"]


def test_a_function_that_has_moved(
    relaying: Relaying, functions: Functions, upstream: Serve
) -> None:
    def talk(link: socket.socket) -> None:
        read_to(link, b"x")
        # A connection that closes unannounced may still be reused before that is noticed.
        reply(link, "200 OK", b"hi", "Connection: close")

    old, new = upstream(talk), upstream(talk)
    assert relaying.ask(old, body=b"x").body == b"hi"
    old.close()
    functions.moved[old.name] = int(new.name)
    assert relaying.ask(old, body=b"x").body == b"hi"
    assert new.connections == 1
    functions.moved[old.name] = 0
    new.close()
    assert relaying.ask(old, body=b"x").status == 404


def test_timeouts_are_applied(relaying: Relaying, upstream: Serve) -> None:
    ended = threading.Event()

    def talk(link: socket.socket) -> None:
        head(link)
        while link.recv(100):
            pass
        ended.set()

    place = upstream(talk)
    answer = relaying.ask(place, body=b"x", headers={"Timeout": "2"})
    assert (answer.status, json.loads(answer.body)["error"]) == (
        504,
        f"{place.name} did not answer within 2 s",
    )
    assert ended.wait(PATIENCE), "the function is not told that nobody waits"


def test_a_caller_that_sends_too_slowly(relaying: Relaying, upstream: Serve) -> None:
    place = upstream(head)
    with contextlib.closing(relaying.connect()) as connection:
        connection.putrequest("POST", f"/{place.name}/")
        connection.putheader("Content-Length", "1000")
        connection.putheader("Timeout", "0.2")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 504
        assert "did not arrive whole" in json.loads(answer.read())["error"]


@pytest.mark.parametrize("length", [1, 1000])
def test_callers_that_disconnect(relaying: Relaying, upstream: Serve, length: int) -> None:
    """After the complete request, and in the middle of it."""
    requested, ended = threading.Event(), threading.Event()

    def talk(link: socket.socket) -> None:
        head(link)
        requested.set()
        while link.recv(100):
            pass
        ended.set()

    place = upstream(talk)
    with contextlib.closing(relaying.connect()) as connection:
        connection.putrequest("POST", f"/{place.name}/")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        connection.send(b"x")
        assert requested.wait(PATIENCE)
    assert ended.wait(PATIENCE)


def test_a_reader_that_does_not_read_stops_the_function(
    relaying: Relaying, upstream: Serve
) -> None:
    sent = 0

    def talk(link: socket.socket) -> None:
        nonlocal sent
        head(link)
        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while sent < 1_000_000_000:
                sent += link.send(bytes(1 << 20))

    place = upstream(talk)
    with contextlib.closing(relaying.connect()) as connection:
        connection.request("GET", f"/{place.name}/")
        connection.getresponse().read(1)
        before = -1
        while before != sent:
            before = sent
            time.sleep(0.3)
        assert sent < 50_000_000


def test_a_closed_idle_connection_is_not_reused(relaying: Relaying, upstream: Serve) -> None:
    closed = threading.Semaphore(0)

    def talk(link: socket.socket) -> None:
        read_to(link, b"x")
        reply(link)
        link.close()  # without an announcement
        closed.release()

    place = upstream(talk)
    for _ in range(20):
        assert relaying.ask(place, body=b"x").status == 200
        assert closed.acquire(timeout=PATIENCE)


def test_connections_are_reused(
    upstream: Serve, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_IDLE_SECONDS", PATIENCE)
    relaying = Relaying(functions)

    def talk(link: socket.socket) -> None:
        while head(link):
            reply(link)

    place = upstream(talk)
    for _ in range(5):
        assert relaying.ask(place, "GET").status == 200
    assert place.connections == 1
    relaying.stop()


def test_garbage_after_a_request(relaying: Relaying, upstream: Serve) -> None:
    """The function receives one request, and no data that the caller sent after it."""
    seen: list[bytes] = []

    def talk(link: socket.socket) -> None:
        while read := head(link):
            seen.append(read)
            reply(link, body=b"fine")

    place = upstream(talk)
    request = f"POST /{place.name}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok".encode()
    with socket.create_connection(("127.0.0.1", relaying.port), PATIENCE) as link:
        link.sendall(request + b"GARBAGE \x00\r\n\r\n" + request)
        received = b""
        while piece := link.recv(65536):
            received += piece
    assert received.count(b"HTTP/1.1 200") <= 1
    assert b"GARBAGE" not in b"".join(seen)
    assert len(seen) <= 1


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Content-Length: 3", "Content-Length: 4"),
        ("Transfer-Encoding: xchunked",),
        ("X-A: 1\nX-B: 2",),
    ],
)
def test_no_request_is_smuggled(relaying: Relaying, upstream: Serve, lines: tuple[str]) -> None:
    seen: list[bytes] = []

    def talk(link: socket.socket) -> None:
        seen.append(head(link))
        reply(link)

    place = upstream(talk)
    text = "\r\n".join([f"POST /{place.name}/ HTTP/1.1", "Host: x", *lines, "", "0\r\n\r\nabc"])
    with socket.create_connection(("127.0.0.1", relaying.port), PATIENCE) as link:
        link.sendall(text.encode())
        received = link.recv(65536)
    heads = b"".join(seen).lower()
    assert received.startswith(b"HTTP/1.1 400") or (
        heads.count(b"content-length") + heads.count(b"transfer-encoding") == 1
    )
