"""Accept connections on listening sockets, which other processes may share.

A listening socket is never closed here.
"""

import asyncio
import socket
from typing import Callable, List, Optional

_MAX_ACCEPTS = 16
_PAUSE_AFTER_ERROR = 0.5


class Acceptor:
    """The listening sockets of a server.

    `on_connection` receives accepted sockets, `on_error` a description and the exception.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_connection: Callable[[socket.socket], object],
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        self._loop = loop
        self._on_connection = on_connection
        self._on_error = on_error
        self._listeners: List[socket.socket] = []
        self._accepting = True
        self._retry: Optional[asyncio.TimerHandle] = None

    def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket unless paused."""
        sock.setblocking(False)
        self._listeners.append(sock)
        if self._accepting:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def pause(self) -> None:
        """Stop accepting. New connections wait for other processes, or for `resume`."""
        self._accepting = False
        self._unwatch()

    def resume(self) -> None:
        """Accept again."""
        self._accepting = True
        self._watch()

    def _watch(self) -> None:
        self._retry = None
        if self._accepting:
            for sock in self._listeners:
                self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _unwatch(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock in self._listeners:
            self._loop.remove_reader(sock.fileno())

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
                self._retry = self._loop.call_later(_PAUSE_AFTER_ERROR, self._watch)
                self._on_error("cannot accept connections at the moment", error)
                return
            if isinstance(address, tuple):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._on_connection(sock)
