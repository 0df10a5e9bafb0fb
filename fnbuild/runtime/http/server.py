"""The server: accepts on listening sockets it was given, and lets go of them without a loss.

A listening socket may be shared with other processes and is never closed here. `pause` leaves new
connections to whoever else accepts on it; `drain` then ends the own ones behind their last request.
"""

import asyncio
import socket
from typing import Awaitable, Callable, Dict, List, Optional, Set, Union

from ..event_loop import EventLoop
from .connection import HttpConnection
from .messages import ConnectionLimits, Deferred, HttpRequest, Reply
from .parser import HeadParser, HttpError
from .reader import RequestReader, SizedBody

# `async def app(request)`, or a plain function that gives a Reply, anything awaitable, or LATER.
# A reply of None ends the connection without an answer.
App = Callable[[HttpRequest], Union[Reply, Awaitable[Optional[Reply]], Deferred, None]]
# Called with what went wrong and the exception behind it.
OnError = Callable[[str, BaseException], None]
# Gives the memory for a body of so many bytes.
BodyAllocator = Callable[[int], SizedBody]
# Called with the status and the reason.
OnRefusal = Callable[[int, str], None]
# Called with a duplicate of the connection's socket, which the server then closes.
Command = Callable[[socket.socket], None]

_MAX_ACCEPTS = 16
_PAUSE_AFTER_ERROR = 0.5


class HttpServer:
    """An HTTP server for one application.

    `connections` counts what was accepted and is not closed yet, `in_flight` the requests the
    application has, `refusals` the requests refused before it, by status; `on_refusal` is told of
    them. `on_error` is told of exceptions the application let through. `commands` are lines that
    are no HTTP: where such a line, with its line feed, comes in place of a request, the function
    gets the connection. `sized` gives the memory for bodies whose size is known before.
    """

    def __init__(
        self,
        app: App,
        limits: Optional[ConnectionLimits] = None,
        on_error: Optional[OnError] = None,
        commands: Optional[Dict[bytes, Command]] = None,
        *,
        loop: EventLoop,
    ) -> None:
        self.app = app
        self.limits = limits or ConnectionLimits()
        self.loop = loop
        self.in_flight = 0
        self.refusals: Dict[int, int] = {}
        self.parting = False
        self.expired = False
        self._on_error = on_error
        self.on_refusal: Optional[OnRefusal] = None
        self.sized: BodyAllocator = SizedBody
        self.commands = commands or {}
        self._parser = HeadParser()
        self._connections: Set[HttpConnection] = set()
        self._listeners: Dict[str, socket.socket] = {}
        self._accepting = True
        self._retry: Optional[asyncio.TimerHandle] = None
        self._expiry: Optional[asyncio.TimerHandle] = None
        self._waiters: List[asyncio.Future[None]] = []

    @property
    def connections(self) -> int:
        return len(self._connections)

    # Accepting.

    async def start(self, sock: socket.socket, name: str = "http") -> None:
        """Accept on a listening socket, unless paused. Requests know its `name` by connection."""
        sock.setblocking(False)
        self._listeners[name] = sock
        if self._accepting:
            self.loop.add_reader(sock.fileno(), self._accept, name, sock)

    def pause(self) -> None:
        """Stop accepting. What queues up is for others on the same socket, or for `resume`."""
        self._accepting = False
        self._unwatch()

    def resume(self) -> None:
        """Accept again."""
        self._accepting = True
        self._watch()

    def _watch(self) -> None:
        self._retry = None
        if self._accepting:
            for name, sock in self._listeners.items():
                self.loop.add_reader(sock.fileno(), self._accept, name, sock)

    def _unwatch(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock in self._listeners.values():
            self.loop.remove_reader(sock.fileno())

    def _accept(self, name: str, listener: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Another process on the same socket was quicker, or the client has left.
                return
            except OSError as error:
                # Most likely out of descriptors or memory. The socket stays readable meanwhile,
                # so that watching it on would spin.
                self._unwatch()
                self._retry = self.loop.call_later(_PAUSE_AFTER_ERROR, self._watch)
                self._report("cannot accept connections for the moment", error)
                return
            client = None
            if isinstance(address, tuple):
                client = address[:2]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(HttpConnection(self, name, sock, client))

    # Ending.

    def part(self) -> None:
        """Go on, but keep no connection: each ends behind the last request that has arrived."""
        self.parting = True

    async def drain(self, timeout: float) -> None:
        """Stop accepting and return when no connection is left and no request is in flight.

        Every connection ends with `Connection: close` on the reply to the last request that has
        arrived on it. Idle ones are waited for, `timeout` seconds at most. Called again, the new
        timeout counts.
        """
        self.pause()
        self.part()
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self.loop.call_later(timeout, self._expire)
        if self._connections or self.in_flight:
            waiter = self.loop.create_future()
            self._waiters.append(waiter)
            await waiter
        self._expiry.cancel()

    def close(self) -> None:
        """Stop accepting and cut every connection, whatever is under way on it."""
        self.pause()
        for connection in list(self._connections):
            connection.abort()

    def _expire(self) -> None:
        self.expired = True
        for connection in list(self._connections):
            connection.retire()
        # Again, for those on which bytes had just arrived that turned out to be no whole request.
        self._expiry = self.loop.call_later(1.0, self._expire)

    # What connections ask and tell.

    def new_reader(self) -> RequestReader:
        """A reader for one connection's requests."""
        limits = self.limits
        return RequestReader(self._parser, limits.max_head, limits.max_body, self.sized)

    def forget(self, connection: HttpConnection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)
        self.settled()

    def settled(self) -> None:
        """A connection or a request has come to its end."""
        if self._waiters and not self._connections and not self.in_flight:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    def refused(self, refusal: HttpError) -> None:
        """A request was answered without the application."""
        self.refusals[refusal.status] = self.refusals.get(refusal.status, 0) + 1
        if self.on_refusal is not None:
            self.on_refusal(refusal.status, refusal.message)

    def failed(self, request: HttpRequest, error: BaseException) -> Reply:
        """The answer to a request whose application raised."""
        self._report("the application failed at %s %s" % (request.method, request.path), error)
        text = "%s: %s" % (type(error).__name__, error)
        return Reply.json(500, {"error": "the request could not be served: " + text}, close=True)

    def command(self, begun: bytes, original: socket.socket) -> bool:
        """Run the command that a connection's first bytes are, if they are one."""
        command = self.commands.get(begun)
        if command is None:
            return False
        with socket.fromfd(original.fileno(), original.family, original.type) as twin:
            command(twin)
        return True

    def _report(self, message: str, error: BaseException) -> None:
        if self._on_error is not None:
            self._on_error(message, error)
