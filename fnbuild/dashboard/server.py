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
from fnbuild.dashboard.auth.tokens import Tokens
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.settings import ListenAddress, Settings
from fnbuild.errors import UnavailableError, UsageError
from fnbuild.store import Store

_CLOSING_RESPONSE = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class LimitedConnection(H11Protocol):
    """Closes itself when no whole head came within `HEAD_SECONDS`: 408 where a part of one did.

    Beyond `MOST` open connections of an address the next is answered 503 and closed.
    """

    HEAD_SECONDS: ClassVar[float] = 20.0
    """From when a connection opens, or from the first byte behind a reply."""

    MOST: ClassVar[int] = 1000

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.MOST:
            self._end(b"503 Service Unavailable")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Time runs while bytes belong to no request that is worked on."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.HEAD_SECONDS, self._overdue)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        incomplete, _ = self.conn.trailing_data
        if incomplete and not self.transport.is_closing():
            self._end(b"408 Request Timeout")
        else:
            self.transport.close()

    def _end(self, status: bytes) -> None:
        self.transport.write(_CLOSING_RESPONSE % status)
        self.transport.close()


GRACE_SECONDS = 30
"""How long requests that run may still take once the dashboard is told to end."""

# Platforms are asked in threads. Python's own interval, ten times as long, is what a request may
# have to wait for each of them at each of its steps.
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

    So is a link that signs a browser in, if `sign_in_link` is True, or None and stderr a terminal.
    """
    if sign_in_link is None:
        sign_in_link = sys.stderr.isatty()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # A connection takes a descriptor, and one that invokes a function takes two.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _DESCRIPTORS), most))
    with Store.open() as store, ExitStack() as opened:
        sockets = [opened.enter_context(_listen(one)) for one in settings.listen]
        health = opened.enter_context(_listen(settings.health)) if settings.health else None
        asyncio.run(_serve(settings, store, sockets, health, sign_in_link=sign_in_link))


def _log_audit_to_stderr() -> None:
    """Every change is a line on stderr, too."""
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
        (_Server(_AddressAccess(streams, open=address.open)), one)
        for address, one in zip(settings.listen, sockets, strict=True)
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
        for server, one in servers:
            group.create_task(server.serve([one]))
        _print_addresses(settings, tokens, sockets, health)
        if sign_in_link:
            code = app.state.services.sign_in.issue()
            text = f"sign in, once and within 15 minutes: {_url(sockets[0])}/#token={code}"
            print(text, file=sys.stderr, flush=True)
        # Behind them: that a token was made is said there.
        _log_audit_to_stderr()
        await _print_unavailable_platforms(settings, app.state.services.inventory)


async def _print_unavailable_platforms(settings: Settings, inventory: Inventory) -> None:
    """Which of the platforms that were asked for do not answer; processes need no engine."""
    await inventory.met()
    asked = {settings.platform, *settings.platforms} - {"process"}
    for platform, notices in inventory.shown():
        if notices and platform.name in asked:
            words = f"the platform {platform.name} does not answer now: {notices[0]}"
            print(words, file=sys.stderr, flush=True)


def _print_addresses(
    settings: Settings, tokens: Tokens, sockets: list[socket.socket], health: socket.socket | None
) -> None:
    lines = []
    for kind, needed in (("write", True), ("read", settings.read_token)):
        if needed and (token := tokens.ensure("write" if kind == "write" else "read")):
            lines.append(f"the {kind} token, shown only now: {token}")
    for address, one in zip(settings.listen, sockets, strict=True):
        reading = "reading needs no token" if address.open else "reading needs a token"
        beside = ", and at every address of this machine" if _is_wildcard(one) else ""
        lines.append(f"the dashboard is at {_url(one)}{beside} ({reading})")
    if health is not None:
        lines.append(f"its health is at {_url(health)}/ready")
    if not all(address.loopback for address in settings.listen):
        lines.append(
            "it speaks plain HTTP, so tokens can be read on their way to it: for others than this"
            " machine, put a proxy with TLS before it"
        )
    print("\n".join(lines), file=sys.stderr, flush=True)


def _is_wildcard(listening: socket.socket) -> bool:
    return listening.getsockname()[0] in _WILDCARD_HOSTS


def _url(listening: socket.socket) -> str:
    """An address that this machine's clients can use."""
    host, port = listening.getsockname()[:2]
    host = _WILDCARD_HOSTS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _listen(address: ListenAddress) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        made = socket.create_server((address.host, address.port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or -1
        if number < 0:  # the resolver's own, or a name that it cannot be asked for
            raise _unknown_host(address) from error
        raise UnavailableError(
            f"cannot listen on {address}: {os.strerror(number)}", hint=_HINTS.get(number)
        ) from error
    with made:
        # What is accepted inherits it. Without, each reply waits 40 ms for the caller's kernel.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made


def _unknown_host(address: ListenAddress) -> UsageError:
    return UsageError(
        f"cannot listen on {address}: {address.host} is no host that is known here",
        hint="HOST:PORT, as in 127.0.0.1:8070, with an address of this machine",
    )


class _Server(uvicorn.Server):
    """One address; signals are for all of them together."""

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


class _AddressAccess:
    """Says of each request whether it came by an address that is open for reading."""

    def __init__(self, app: ASGIApp, *, open: bool):  # noqa: A002 - as in Address
        self._app = app
        self._open = open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[OPEN_KEY] = self._open
        await self._app(scope, receive, send)


class StreamTracker:
    """Ends answers that would go on for ever, such as logs that are followed, when it is told to.

    Those are answers to GET of unknown length, but for what comes from a function.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._running: set[anyio.CancelScope] = set()

    def end(self) -> None:
        for one in self._running:
            one.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or scope["path"].startswith(_INVOCATIONS):
            await self._app(scope, receive, send)
            return
        with anyio.CancelScope() as cancelled:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start" and not _has_length(message):
                    self._running.add(cancelled)
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                self._running.discard(cancelled)
        if cancelled.cancelled_caught:
            await send({"type": "http.response.body", "body": b""})


def _has_length(message: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message["headers"])
