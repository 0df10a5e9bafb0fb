"""An HTTP server on given listening sockets, which it can hand over without losing requests.

A listening socket may be shared with other processes and is never closed here. `pause` leaves new
connections to other processes; `drain` then ends open connections after their last request.
"""

import asyncio
import socket
from typing import Dict, List, Optional, Set

from ..acceptor import Acceptor
from .connection import HttpConnection
from .connection_owner import App, Command, ConnectionOwner, OnError
from .messages import ConnectionLimits
from .reader import SizedBody


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
        self._acceptor = Acceptor(loop, self._connect, self.report)
        self._expiry: Optional[asyncio.TimerHandle] = None
        self._waiters: List[asyncio.Future[None]] = []

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket unless paused."""
        self._acceptor.start(sock)

    def pause(self) -> None:
        """Stop accepting. New connections wait for other processes."""
        self._acceptor.pause()

    def _connect(self, sock: socket.socket) -> None:
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
