"""Relay requests to functions, and their replies to the callers.

Bodies stream in both directions at the pace of the slower side and are never held whole. Nothing is
sent twice: a request goes to another upstream only while no byte of it can have been read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from fnbuild.dashboard import http
from fnbuild.dashboard.auth.tokens import SESSION_COOKIE
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.reply_watch import ReplySample, ReplyWatch
from fnbuild.dashboard.upstreams import Upstream, Upstreams, without_scheme
from fnbuild.errors import FnbuildError, UnavailableError, UsageError
from fnbuild.hosts import join_path

HeaderList = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "expect"}
# The server adds its own, and a function may not clear the state of the page.
_NOT_RETURNED = _HOP_BY_HOP | {"date", "server", "clear-site-data"}
# Cookies that authenticate at the dashboard.
_DASHBOARD_COOKIES = frozenset({SESSION_COOKIE, "session"})
_LOGS_HEADER = "x-nuclio-logs"


def returned_headers(reply: aiohttp.ClientResponse, *, logs: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers of a function's reply that the caller receives.

    Nuclio's dashboard keeps those that begin with X-Nuclio to itself
    (pkg/dashboard/resource/function_invocation.go).
    """
    excluded = _NOT_RETURNED | _connection_options(reply.headers.getall("Connection", []))
    return [
        (name.encode("latin-1"), value)
        for raw_name, value in reply.raw_headers
        for name in [raw_name.decode("latin-1").lower()]
        if name not in excluded
        and not name.startswith("access-control-")
        and not (name == "set-cookie" and _cookie_name(value) in _DASHBOARD_COOKIES)
        and (not name.startswith("x-nuclio") or (logs and name == _LOGS_HEADER))
    ]


def _cookie_name(value: bytes) -> str:
    return value.partition(b"=")[0].strip().decode("latin-1")


def forwarded_headers(headers: list[tuple[bytes, bytes]], excluded: frozenset[str]) -> HeaderList:
    """Return a caller's headers for the function, without hop-by-hop and excluded ones."""
    decoded = [(_decode(name).lower(), _decode(value)) for name, value in headers]
    options = [value for name, value in decoded if name == "connection"]
    excluded |= _NOT_FORWARDED | _connection_options(options)
    if any(name == "transfer-encoding" for name, _ in decoded):
        # Transfer-Encoding overrides Content-Length (RFC 9112, 6.3).
        excluded |= {"content-length"}
    return [(name, value) for name, value in decoded if name not in excluded]


def _connection_options(values: list[str]) -> frozenset[str]:
    """Return the header names that Connection headers declare to be hop-by-hop."""
    return frozenset(name.strip().lower() for value in values for name in value.split(","))


def _decode(header: bytes) -> str:
    # Headers are sent as UTF-8, so only UTF-8 passes unchanged.
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


# A processor that ends waits a second for idle connections. A connection that was used less than
# that ago is not about to close, so no request is sent to a closing one.
_IDLE_SECONDS = 0.75
_CONNECT_SECONDS = 10.0
# Logs and names of classes are sent in headers.
_MAX_HEADER_BYTES = 1 << 20
_RETRY_AFTER = {"Retry-After": "1"}


class InvocationTimeoutError(FnbuildError):
    """The function took longer than the caller waits."""

    code = "timeout"
    http_status = 504


class NoReplyError(FnbuildError):
    """The function was reached, but sent no complete reply."""

    code = "no-reply"
    http_status = 502


@dataclass(frozen=True, slots=True)
class Invocation:
    """The request to relay, and the function that receives it.

    `path` is appended to the function's URL. `url` is the one of its URLs to use, "" for any.
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
    """A pool of connections to functions, and the upstreams that they lead to."""

    def __init__(self, inventory: Inventory, watch: ReplyWatch | None = None):
        self._upstreams = Upstreams(inventory)
        self._watch = watch
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            # The invocation's own timeout covers all steps together.
            timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS),
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )
        await self._upstreams.start()

    async def stop(self) -> None:
        await self._upstreams.stop()
        if self._session is not None:
            await self._session.close()

    def response(self, invocation: Invocation) -> Response:
        """Return a response that invokes the function while it is sent."""
        if self._session is None:
            raise RuntimeError("the relay has not been started")
        return _RelayedResponse(invocation, self._session, self._upstreams, self._watch)


class _RelayedResponse(Response):
    """The reply of one invocation."""

    def __init__(
        self,
        invocation: Invocation,
        session: aiohttp.ClientSession,
        upstreams: Upstreams,
        watch: ReplyWatch | None,
    ):
        self._watch = watch
        self._sample: ReplySample | None = None
        self._invocation = invocation
        self._session = session
        self._upstreams = upstreams
        self._has_begun = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _RequestBody(scope, receive)
        try:
            async with asyncio.timeout(self._invocation.timeout), body.cancel_on_disconnect():
                await self._relay(str(scope["method"]), body, send)
        except TimeoutError:
            error: FnbuildError = self._timeout_error(body)
        except FnbuildError as failure:
            error = failure
        else:
            return
        # A reply that has begun cannot become an error: it ends incomplete.
        if not self._has_begun and not body.is_disconnected:
            response = http.error_response(error)
            if error.http_status == UnavailableError.http_status:
                response.headers.update(_RETRY_AFTER)
            await response(scope, receive, send)

    def _timeout_error(self, body: _RequestBody) -> InvocationTimeoutError:
        timeout = f"{self._invocation.timeout:g} s"
        if body.is_complete:
            message = f"{self._invocation.name} did not answer within {timeout}"
        else:
            message = (
                f"the request did not arrive whole at {self._invocation.name} within {timeout}"
            )
        return InvocationTimeoutError(
            message, hint="the header X-Nuclio-Invoke-Timeout sets the time limit, as in 5m"
        )

    async def _relay(self, method: str, body: _RequestBody, send: Send) -> None:
        namespace, name = self._invocation.namespace, self._invocation.name
        for is_last in (False, True):
            try:
                async with self._upstreams.acquire(namespace, name) as upstream:
                    await self._forward(method, upstream, body, send)
                return
            except aiohttp.ClientConnectorError as error:
                # The function has moved, or is gone. Nothing of the request was sent.
                self._upstreams.forget(namespace, name)
                if is_last:
                    raise UnavailableError(
                        f"{name} cannot be reached: {error.strerror or error}",
                        hint="it may be starting; its log says more",
                    ) from error

    def _target(self, upstream: Upstream) -> URL:
        base = upstream.url
        requested = self._invocation.url
        if requested:
            if without_scheme(requested) not in upstream.urls:
                raise UsageError(
                    f"Invalid function url: {requested}",
                    hint=f"{upstream.name} has {', '.join(sorted(upstream.urls))}",
                )
            base = requested if "://" in requested else f"http://{requested}"
        parts = urlsplit(base)
        path = join_path(parts.path, self._invocation.path)
        return URL(f"{parts.scheme}://{parts.netloc}{path}", encoded=True)

    async def _forward(
        self, method: str, upstream: Upstream, body: _RequestBody, send: Send
    ) -> None:
        chunks = body.chunks()
        if chunks is not None and method == "POST":
            self._sample = self._new_sample()
            chunks = self._sample.copy_request(chunks) if self._sample else chunks
        headers = [
            *(item for item in self._invocation.headers if item[0] not in upstream.headers),
            *upstream.headers.items(),
        ]
        if chunks is None:
            headers = [header for header in headers if header[0] != "content-length"]
        try:
            reply = await self._session.request(
                method,
                self._target(upstream),
                headers=headers,
                data=chunks,
                allow_redirects=False,
                ssl=self._invocation.verify,
            )
            try:
                await self._send_reply(reply, send)
            finally:
                if body.is_complete:
                    reply.release()
                else:
                    # The rest of the body must not be taken for the next request.
                    reply.close()
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoReplyError(
                f"{self._invocation.name} ended the connection without a whole reply: {error}",
                hint="its log says why; whether it did the work is not known here",
            ) from error

    def _new_sample(self) -> ReplySample | None:
        """Return a sample to fill, if this exchange is to be checked. CVAT's path is the root."""
        if self._watch is None or self._invocation.path:
            return None
        return self._watch.new_sample(self._invocation.namespace, self._invocation.name)

    async def _send_reply(self, reply: aiohttp.ClientResponse, send: Send) -> None:
        self._has_begun = True
        headers = returned_headers(reply, logs=self._invocation.logs)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        sample = self._sample if "Content-Encoding" not in reply.headers else None
        if sample is not None:
            sample.status = reply.status
        async for chunk in reply.content.iter_any():
            if sample is not None:
                sample.add_reply(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if self._watch is not None and sample is not None:
            self._watch.submit(sample)


class _RequestBody:
    """The body of the caller's request, and whether the caller is still connected."""

    def __init__(self, scope: Scope, receive: Receive):
        names = {name for name, _ in scope["headers"]}
        self._receive = receive
        self._has_body = bool(names & {b"content-length", b"transfer-encoding"})
        # Nuclio forwards no body of a GET (pkg/platform/abstract/invoker.go).
        self._is_forwarded = scope["method"] != "GET"
        self._complete = asyncio.Event()
        self.is_disconnected = False

    @property
    def is_complete(self) -> bool:
        """True if the whole body has been read, or none is forwarded."""
        return self._complete.is_set()

    def chunks(self) -> AsyncIterator[bytes] | None:
        """Return the body in chunks, None if there is none to forward."""
        if self._has_body and self._is_forwarded:
            return self._read_chunks()
        self._complete.set()
        return None

    async def _read_chunks(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_disconnected = True
                raise ConnectionResetError("the caller has left")
            if chunk := message.get("body"):
                yield chunk
            if not message.get("more_body"):
                self._complete.set()
                return

    @asynccontextmanager
    async def cancel_on_disconnect(self) -> AsyncIterator[None]:
        """Cancel the block as soon as the caller disconnects."""
        task = asyncio.current_task()
        watcher = asyncio.create_task(self._watch(task))
        try:
            yield
        except asyncio.CancelledError:
            if not self.is_disconnected or task is None or task.uncancel():
                raise
        finally:
            watcher.cancel()

    async def _watch(self, task: asyncio.Task[None] | None) -> None:
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_disconnected = True
        if task is not None:
            task.cancel()
