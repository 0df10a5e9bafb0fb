"""An HTTP server on given listening sockets, which it can hand over without losing requests.

A listening socket may be shared with other processes and is never closed here. `pause` leaves new
connections to other processes; `drain` then ends open connections after their last request.
"""

import asyncio
import socket
from typing import Dict, List, Optional, Set

from .connection import HttpConnection
from .connection_owner import App, Command, ConnectionOwner, OnError
from .messages import ConnectionLimits
from .reader import SizedBody

_MAX_ACCEPTS = 16
_PAUSE_AFTER_ERROR = 0.5


class HttpServer(ConnectionOwner):
    """An HTTP server for one application."""

    def __init__(
        self,
        app: App,
        limits: Optional[ConnectionLimits] = None,
        on_error: Optional[OnError] = None,
        commands: Optional[Dict[bytes, Command]] = None,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.app = app
        self.limits = limits or ConnectionLimits()
        self.on_error = on_error
        self.commands = commands or {}
        self.loop = loop
        self.allocate_body = SizedBody
        self._connections: Set[HttpConnection] = set()
        self._listeners: List[socket.socket] = []
        self._accepting = True
        self._retry: Optional[asyncio.TimerHandle] = None
        self._expiry: Optional[asyncio.TimerHandle] = None
        self._waiters: List[asyncio.Future[None]] = []

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    # Accepting.

    def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket unless paused."""
        sock.setblocking(False)
        self._listeners.append(sock)
        if self._accepting:
            self.loop.add_reader(sock.fileno(), self._accept, sock)

    def pause(self) -> None:
        """Stop accepting. New connections wait for other processes."""
        self._accepting = False
        self._unwatch()

    def _watch(self) -> None:
        self._retry = None
        if self._accepting:
            for sock in self._listeners:
                self.loop.add_reader(sock.fileno(), self._accept, sock)

    def _unwatch(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock in self._listeners:
            self.loop.remove_reader(sock.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Another process on the socket was faster, or the client has left.
                return
            except OSError as error:
                # Most likely out of descriptors or memory. The socket stays readable, so watching
                # it would spin.
                self._unwatch()
                self._retry = self.loop.call_later(_PAUSE_AFTER_ERROR, self._watch)
                self.report("cannot accept connections at the moment", error)
                return
            if isinstance(address, tuple):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(HttpConnection(self, sock, self._forget))

    # Ending.

    def disable_keep_alive(self) -> None:
        """End each connection after the last request that has arrived on it."""
        self.keep_alive_disabled = True

    async def drain(self, timeout: float) -> None:
        """Stop accepting; return when no connection is open and no request in flight.

        Each connection ends with `Connection: close` on the reply to the last request that has
        arrived on it. Idle connections may stay open for `timeout` seconds. A further call sets a
        new timeout.
        """
        self.pause()
        self.disable_keep_alive()
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self.loop.call_later(timeout, self._expire)
        if self._connections or self.in_flight:
            waiter = self.loop.create_future()
            self._waiters.append(waiter)
            await waiter
        self._expiry.cancel()

    def close(self) -> None:
        """Stop accepting and close every connection immediately."""
        self.pause()
        for connection in list(self._connections):
            connection.abort()

    def _expire(self) -> None:
        self.expired = True
        for connection in list(self._connections):
            connection.retire()
        # Again, for connections that had just received a part of a request.
        self._expiry = self.loop.call_later(1.0, self._expire)

    def _forget(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        self.request_ended()

    def request_ended(self) -> None:
        if self._waiters and not self._connections and not self.in_flight:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()
