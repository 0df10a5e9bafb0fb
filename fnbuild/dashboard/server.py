"""Listen on the dashboard's addresses and its health address, and shut down in order.

Each address has a server of its own for the same application, because access without a token
depends on the address. SIGTERM and SIGINT end streams at once, let running requests complete, and
then stop the background work.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fnbuild.dashboard import app as assembly
from fnbuild.dashboard.auth.middleware import OPEN_KEY
from fnbuild.dashboard.auth.tokens import TokenKind, Tokens
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.settings import ListenAddress, Settings
from fnbuild.errors import UnavailableError, UsageError
from fnbuild.hosts import bracketed
from fnbuild.store import Store

_CLOSING_RESPONSE = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class LimitedConnection(H11Protocol):
    """A client's connection: uvicorn's, with limits on its number and on waiting for a request.

    uvicorn limits how long a connection is idle after a reply, but waits forever for the first byte
    of the first request, for the rest of a head, and for the rest of a body whose request is
    answered. Here a connection is closed if no whole head arrives within `HEAD_SECONDS`, with 408
    if a part of one did. Beyond `MAX_CONNECTIONS` of an address, a connection receives 503.
    """

    HEAD_SECONDS: ClassVar[float] = 20.0
    """Counted from the opening of a connection, or from the first byte after a reply."""

    MAX_CONNECTIONS: ClassVar[int] = 1000

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.MAX_CONNECTIONS:
            self._close_with(b"503 Service Unavailable")
        else:
            self._update_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _update_deadline(self) -> None:
        """Run the timer while no request is being processed."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.HEAD_SECONDS, self._on_deadline)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        incomplete, _ = self.conn.trailing_data
        if incomplete and not self.transport.is_closing():
            self._close_with(b"408 Request Timeout")
        else:
            self.transport.close()

    def _close_with(self, status: bytes) -> None:
        self.transport.write(_CLOSING_RESPONSE % status)
        self.transport.close()


GRACE_SECONDS = 30
"""Seconds for running requests to complete after the signal to end."""

# Calls to platforms run in threads. With Python's default interval, which is ten times as long, a
# request may wait that long for each thread at each of its steps.
_SWITCH_SECONDS = 0.0005
_DESCRIPTORS = 65536
_INVOCATIONS = "/api/function_invocations"
_WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - as asked
_HINTS = {
    errno.EADDRINUSE: "another program has the port: take another one, or end that program",
    errno.EADDRNOTAVAIL: "HOST has to be an address of this machine: `ip address` lists them",
    errno.EACCES: "take a port from 1024 on: those below are the administrator's",
}


def serve(settings: Settings, *, sign_in_link: bool | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Addresses and a new token are printed on stderr.

    A sign-in link is printed if `sign_in_link` is True, or if it is None and stderr a terminal.
    """
    if sign_in_link is None:
        sign_in_link = sys.stderr.isatty()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # A connection takes a descriptor, and one that invokes a function takes two.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _DESCRIPTORS), most))
    with Store.open() as store, ExitStack() as stack:
        sockets = [stack.enter_context(_listen(address)) for address in settings.listen]
        health = stack.enter_context(_listen(settings.health)) if settings.health else None
        asyncio.run(_serve(settings, store, sockets, health, sign_in_link=sign_in_link))


def _log_audit_to_stderr() -> None:
    """Write every change to stderr as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s audit: %(message)s"))
    logger = logging.getLogger("fnbuild.audit")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False


async def _serve(
    settings: Settings,
    store: Store,
    sockets: list[socket.socket],
    health: socket.socket | None,
    *,
    sign_in_link: bool,
) -> None:
    app = assembly.create_app(settings, store)
    tokens: Tokens = app.state.services.tokens
    streams = StreamTracker(app)
    servers = [
        (_Server(_OpenAddressMarker(streams, open=address.open)), listener)
        for address, listener in zip(settings.listen, sockets, strict=True)
    ]
    if health is not None:
        servers.append((_Server(Starlette(routes=assembly.health_routes())), health))
    loop = asyncio.get_running_loop()

    def end() -> None:
        streams.end()
        for server, _ in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with app.router.lifespan_context(app), asyncio.TaskGroup() as group:
        for server, listener in servers:
            group.create_task(server.serve([listener]))
        _create_missing_tokens(settings, tokens)
        _print_addresses(settings, sockets, health)
        if sign_in_link:
            code = app.state.services.sign_in_codes.issue()
            text = f"sign in, once and within 15 minutes: {_url(sockets[0])}/#token={code}"
            print(text, file=sys.stderr, flush=True)
        # After them, because they say that a token was created.
        _log_audit_to_stderr()
        await _print_unavailable_platforms(settings, app.state.services.inventory)


async def _print_unavailable_platforms(settings: Settings, inventory: Inventory) -> None:
    """Print which of the configured platforms do not answer."""
    await inventory.wait_for_platforms()
    configured = {settings.platform, *settings.platforms}
    for platform, notices in inventory.platforms():
        if notices and platform.needs_running_service and platform.name in configured:
            message = f"the platform {platform.name} does not answer now: {notices[0]}"
            print(message, file=sys.stderr, flush=True)


def _create_missing_tokens(settings: Settings, tokens: Tokens) -> None:
    """Create the tokens that are needed and do not exist; print them."""
    kinds: tuple[TokenKind, ...] = ("write", "read") if settings.read_token else ("write",)
    for kind in kinds:
        if token := tokens.create_if_missing(kind):
            print(f"the {kind} token, shown only now: {token}", file=sys.stderr, flush=True)


def _print_addresses(
    settings: Settings, sockets: list[socket.socket], health: socket.socket | None
) -> None:
    lines = []
    for address, listener in zip(settings.listen, sockets, strict=True):
        reading = "reading needs no token" if address.open else "reading needs a token"
        others = ", and at every address of this machine" if _is_wildcard(listener) else ""
        lines.append(f"the dashboard is at {_url(listener)}{others} ({reading})")
    if health is not None:
        lines.append(f"its health is at {_url(health)}/ready")
    if not all(address.loopback for address in settings.listen):
        lines.append(
            "it uses plain HTTP, which does not protect tokens: put a proxy with TLS before it for"
            " clients on other machines"
        )
    print("\n".join(lines), file=sys.stderr, flush=True)


def _is_wildcard(listener: socket.socket) -> bool:
    return listener.getsockname()[0] in _WILDCARD_HOSTS


def _url(listener: socket.socket) -> str:
    """Return a URL that clients on this machine can use."""
    host, port = listener.getsockname()[:2]
    host = _WILDCARD_HOSTS.get(host, host)
    return f"http://{bracketed(host)}:{port}"


@contextmanager
def _listen(address: ListenAddress) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or -1
        if number < 0:  # an error of the resolver, or a name that it does not accept
            raise _unknown_host(address) from error
        raise UnavailableError(
            f"cannot listen on {address}: {os.strerror(number)}", hint=_HINTS.get(number)
        ) from error
    with listener:
        # Accepted sockets inherit it. Without it, each reply waits 40 ms for the client's kernel.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _unknown_host(address: ListenAddress) -> UsageError:
    return UsageError(
        f"cannot listen on {address}: the host {address.host} is unknown",
        hint="HOST:PORT, as in 127.0.0.1:8070, with an address of this machine",
    )


class _Server(uvicorn.Server):
    """The server of one address. Signals are handled for all servers together."""

    def __init__(self, app: ASGIApp):
        super().__init__(
            uvicorn.Config(
                app,
                http=LimitedConnection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _OpenAddressMarker:
    """Middleware that tells `AuthMiddleware` whether the address is open for reading."""

    def __init__(self, app: ASGIApp, *, open: bool):  # noqa: A002 - as in Address
        self._app = app
        self._open = open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[OPEN_KEY] = self._open
        await self._app(scope, receive, send)


class StreamTracker:
    """Middleware that can end responses without an end of their own, such as followed logs.

    These are responses of unknown length to GET, except for the replies of functions.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._running: set[anyio.CancelScope] = set()

    def end(self) -> None:
        for scope in self._running:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or scope["path"].startswith(_INVOCATIONS):
            await self._app(scope, receive, send)
            return
        with anyio.CancelScope() as cancel_scope:

            async def track_and_send(message: Message) -> None:
                if message["type"] == "http.response.start" and not _has_length(message):
                    self._running.add(cancel_scope)
                await send(message)

            try:
                await self._app(scope, receive, track_and_send)
            finally:
                self._running.discard(cancel_scope)
        if cancel_scope.cancelled_caught:
            await send({"type": "http.response.body", "body": b""})


def _has_length(message: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message["headers"])
