"""Relay requests to functions, and their replies to the callers.

Bodies stream in both directions at the pace of the slower side and are never held whole. Nothing is
sent twice: a request goes to another upstream only while no byte of it can have been read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from fnbuild.dashboard import http
from fnbuild.dashboard.auth.tokens import SESSION_COOKIE
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.upstreams import Upstream, Upstreams, without_scheme
from fnbuild.errors import FnbuildError, UnavailableError, UsageError

HeaderList = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "expect"}
# The server adds its own; what is left of a page's state is not a function's to clear.
_NOT_RETURNED = _HOP_BY_HOP | {"date", "server", "clear-site-data"}
# Cookies of this address that say who somebody is.
_DASHBOARD_COOKIES = frozenset({SESSION_COOKIE, "session"})
_LOGS_HEADER = "x-nuclio-logs"


def returned_headers(reply: aiohttp.ClientResponse, *, logs: bool) -> list[tuple[bytes, bytes]]:
    """The function's headers for the caller.

    Nuclio's dashboard keeps those that begin with X-Nuclio to itself
    (pkg/dashboard/resource/function_invocation.go).
    """
    left_out = _NOT_RETURNED | _connection_options(reply.headers.getall("Connection", []))
    return [
        (low.encode("latin-1"), value)
        for name, value in reply.raw_headers
        for low in [name.decode("latin-1").lower()]
        if low not in left_out
        and not low.startswith("access-control-")
        and not (low == "set-cookie" and _cookie_name(value) in _DASHBOARD_COOKIES)
        and (not low.startswith("x-nuclio") or (logs and low == _LOGS_HEADER))
    ]


def _cookie_name(value: bytes) -> str:
    return value.partition(b"=")[0].strip().decode("latin-1")


def forwarded_headers(headers: list[tuple[bytes, bytes]], left_out: frozenset[str]) -> HeaderList:
    """A caller's headers for the function, without those of one hop and those left out."""
    given = [(_decode(name).lower(), _decode(value)) for name, value in headers]
    left_out |= _NOT_FORWARDED | _connection_options(
        [value for name, value in given if name == "connection"]
    )
    if any(name == "transfer-encoding" for name, _ in given):
        # Of the two, that one says how long the body is (RFC 9112, 6.3).
        left_out |= {"content-length"}
    return [(name, value) for name, value in given if name not in left_out]


def _connection_options(connection: list[str]) -> frozenset[str]:
    """The headers that a Connection header says are of one hop."""
    return frozenset(one.strip().lower() for value in connection for one in value.split(","))


def _decode(header: bytes) -> str:
    # What goes out is UTF-8, so only that comes through as it was.
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


# What ends a processor waits a second for idle connections. One that was used less than that ago
# cannot be about to close, so no request meets a closing one.
_IDLE_SECONDS = 0.75
_CONNECT_SECONDS = 10.0
# Logs and the names of classes travel in headers.
_LARGEST_HEADER = 1 << 20
_RETRY_AFTER = {"Retry-After": "1"}


class InvocationTimeoutError(FnbuildError):
    """The function took longer than the caller waits."""

    code = "timeout"
    http_status = 504


class NoReplyError(FnbuildError):
    """The function was reached, and what came back is no reply."""

    code = "no-reply"
    http_status = 502


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is passed on, and to whom.

    `path` goes behind the function's URL; `url` is the one of its URLs to use, "" for any;
    `timeout` is in seconds, from the first byte to the last. With `logs` the reply keeps the
    function's log records.
    """

    namespace: str
    name: str
    path: str
    headers: HeaderList
    url: str = ""
    timeout: float = 60.0
    verify: bool = True
    logs: bool = False


class Relay:
    """Connections to functions, and where those are."""

    def __init__(self, inventory: Inventory):
        self.addresses = Upstreams(inventory)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            # The caller's time is kept here, for all steps together.
            timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS),
            max_line_size=_LARGEST_HEADER,
            max_field_size=_LARGEST_HEADER,
        )
        await self.addresses.start()

    async def stop(self) -> None:
        await self.addresses.stop()
        if self._session is not None:
            await self._session.close()

    def reply(self, call: Invocation) -> Response:
        """The function's reply as a response, which is asked for when it is sent."""
        if self._session is None:
            raise RuntimeError("the relay has not been started")
        return _RelayedResponse(call, self._session, self.addresses)


class _RelayedResponse(Response):
    """One exchange with a function."""

    def __init__(self, call: Invocation, session: aiohttp.ClientSession, addresses: Upstreams):
        self._call = call
        self._session = session
        self._addresses = addresses
        self._began = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upload = _RequestBody(scope, receive)
        try:
            async with asyncio.timeout(self._call.timeout), upload.watched():
                await self._pass_on(str(scope["method"]), upload, send)
        except TimeoutError:
            error: FnbuildError = self._late(upload)
        except FnbuildError as refused:
            error = refused
        else:
            return
        # A reply that has begun cannot become another one: it ends without its end.
        if not self._began and not upload.gone:
            headers = _RETRY_AFTER if error.http_status == UnavailableError.http_status else {}
            answer = http.error_response(error)
            answer.headers.update(headers)
            await answer(scope, receive, send)

    def _late(self, upload: _RequestBody) -> InvocationTimeoutError:
        waited = f"{self._call.timeout:g} s"
        if upload.whole:
            text = f"{self._call.name} did not answer within {waited}"
        else:
            text = f"the request did not arrive whole at {self._call.name} within {waited}"
        return InvocationTimeoutError(
            text, hint="the header X-Nuclio-Invoke-Timeout gives it more, as in 5m"
        )

    async def _pass_on(self, method: str, upload: _RequestBody, send: Send) -> None:
        for last in (False, True):
            try:
                async with self._addresses.way(self._call.namespace, self._call.name) as way:
                    await self._exchange(method, self._target(way), upload, send)
                return
            except aiohttp.ClientConnectorError as error:
                # It has moved, or is gone. Nothing of the request was sent.
                self._addresses.forget(self._call.namespace, self._call.name)
                if last:
                    raise UnavailableError(
                        f"{self._call.name} cannot be reached: {error.strerror or error}",
                        hint="it may be starting; its log says more",
                    ) from error

    def _target(self, way: Upstream) -> URL:
        base = way.url
        if self._call.url:
            if without_scheme(self._call.url) not in way.urls:
                raise UsageError(
                    f"Invalid function url: {self._call.url}",
                    hint=f"{way.name} has {', '.join(sorted(way.urls))}",
                )
            base = self._call.url if "://" in self._call.url else f"http://{self._call.url}"
        return URL(f"{base.rstrip('/')}/{self._call.path}", encoded=True)

    async def _exchange(self, method: str, target: URL, upload: _RequestBody, send: Send) -> None:
        body = upload.body()
        headers = self._call.headers
        if body is None:
            headers = [one for one in headers if one[0] != "content-length"]
        try:
            reply = await self._session.request(
                method,
                target,
                headers=headers,
                data=body,
                allow_redirects=False,
                ssl=self._call.verify,
            )
            try:
                await self._reply(reply, send)
            finally:
                if upload.whole:
                    reply.release()
                else:
                    # The rest of the body must not be taken for the next request.
                    reply.close()
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoReplyError(
                f"{self._call.name} ended the connection without a whole reply: {error}",
                hint="its log says why; whether it did the work is not known here",
            ) from error

    async def _reply(self, reply: aiohttp.ClientResponse, send: Send) -> None:
        self._began = True
        headers = returned_headers(reply, logs=self._call.logs)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        async for piece in reply.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _RequestBody:
    """The caller's body on its way, and the caller: `gone` when it has left."""

    def __init__(self, scope: Scope, receive: Receive):
        names = {name for name, _ in scope["headers"]}
        self._receive = receive
        self._some = bool(names & {b"content-length", b"transfer-encoding"})
        # Nuclio passes no body of a GET on (pkg/platform/abstract/invoker.go).
        self._wanted = scope["method"] != "GET"
        self._read = asyncio.Event()
        self.gone = False

    @property
    def whole(self) -> bool:
        """Whether nothing more of it will come."""
        return self._read.is_set()

    def body(self) -> AsyncIterator[bytes] | None:
        """What there is to pass on; None for no body at all."""
        if self._some and self._wanted:
            return self._pieces()
        self._read.set()
        return None

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ConnectionResetError("the caller has left")
            if piece := message.get("body"):
                yield piece
            if not message.get("more_body"):
                self._read.set()
                return

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End what is done in the block as soon as the caller leaves."""
        block = asyncio.current_task()
        watch = asyncio.create_task(self._watch(block))
        try:
            yield
        except asyncio.CancelledError:
            if not self.gone or block is None or block.uncancel():
                raise
        finally:
            watch.cancel()

    async def _watch(self, block: asyncio.Task[None] | None) -> None:
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if block is not None:
            block.cancel()
