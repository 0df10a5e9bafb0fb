"""Relay gRPC connections between clients and the private unix socket of the gRPC server.

The bytes pass unchanged, but for one frame that `retire` inserts: GOAWAY, on which a client makes
further calls on a new connection. The server's own shutdown would send it as well, and cancel the
calls that arrive before the client has read it.
"""

import asyncio
import socket
import struct
from typing import Callable, Optional, Set

from .. import sockets
from ..acceptor import Acceptor
from ..streams import Data, Stream, StreamOwner

_FRAME_HEAD = 9
# HEADERS, PUSH_PROMISE and CONTINUATION; without the flag END_HEADERS, the next frame belongs to
# the same headers.
_HEADER_FRAMES = (1, 5, 9)
_END_HEADERS = 4
_MAX_STREAM = 0x7FFFFFFF
# Seconds until a connection is tried again if the server has a full backlog.
_RETRY_INTERVAL = 0.02
_REFUSAL_LINGER = 1.0
_SEND_BUFFER = 1024 * 1024


# A GOAWAY frame without an error, for all streams.
_RETIRE = b"\0\0\x08\x07" + bytes(5) + struct.pack(">II", _MAX_STREAM, 0)


class FrameCounter:
    """Finds the ends of frames in the bytes that a server of HTTP/2 sends.

    Headers in several frames count as one frame, since no other may be between them.
    """

    def __init__(self) -> None:
        self.at_end = False
        self._head = b""
        self._missing = 0
        self._continued = False

    def feed(self, data: bytes) -> int:
        """Return the position after the last whole frame, 0 if no frame ends in the data."""
        position = end = 0
        while position < len(data):
            if not self._missing:
                wanted = _FRAME_HEAD - len(self._head)
                self._head += data[position : position + wanted]
                position += wanted
                if len(self._head) < _FRAME_HEAD:
                    break
                self._missing = int.from_bytes(self._head[:3], "big")
                kind, flags = self._head[3:5]
                self._continued = kind in _HEADER_FRAMES and not flags & _END_HEADERS
                self._head = b""
            step = min(self._missing, len(data) - position)
            self._missing -= step
            position += step
            if not self._missing and not self._continued:
                end = position
        self.at_end = end == len(data)
        return end


class _End(StreamOwner):
    """One end of a relayed connection. `connect` names the other."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_close: Callable[[], None]
    ) -> None:
        self.stream = Stream(loop, sock, self)
        self._on_close = on_close
        self._other: Optional[_End] = None

    def connect(self, other: "_End") -> None:
        self._other = other

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.send(data)
            if self._other.stream.unsent:
                # Until the other end has room again.
                self.stream.pause()

    def send(self, data: Data) -> None:
        """Send data that the other end has received."""
        self.stream.write(data)

    def flushed(self) -> None:
        if self._other is not None:
            self._other.stream.resume()

    def eof_received(self) -> None:
        self.stream.close()

    def connection_lost(self, error: Optional[Exception]) -> None:  # noqa: ARG002 - the stream's signature
        if self._other is not None:
            self._other.stream.close()
        self._on_close()


class _ClientEnd(_End):
    """The end at the client, which gets a GOAWAY frame between two frames of the server."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_close: Callable[[], None]
    ) -> None:
        super().__init__(loop, sock, on_close)
        self._frames = FrameCounter()
        self._retiring = False

    def send(self, data: Data) -> None:
        received = bytes(data)
        end = self._frames.feed(received)
        if self._retiring and end:
            self._retiring = False
            self.stream.write(received[:end] + _RETIRE + received[end:])
        else:
            self.stream.write(received)

    def retire(self) -> None:
        """Send GOAWAY, now or after the current frame; the first one must be the server's."""
        if self._frames.at_end:
            self.stream.write(_RETIRE)
        else:
            self._retiring = True


class GrpcRelay:
    """The connections of clients to the server at `path`.

    While `refusal` is set, it is all that clients get. A connection that fails before HTTP/2 has
    begun makes them wait before the next attempt.
    """

    def __init__(
        self,
        path: str,
        on_error: Callable[[str, BaseException], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.refusal: Optional[bytes] = None
        self._path = path
        self._loop = loop
        self._acceptor = Acceptor(loop, self._connect, on_error)
        self._acceptor.pause()
        self._connections: Set[_ClientEnd] = set()
        self._closed = asyncio.Event()
        self._closed.set()
        self.start = self._acceptor.start
        self.pause = self._acceptor.pause
        self.resume = self._acceptor.resume

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def _connect(self, client: socket.socket) -> None:
        if self.refusal is not None:
            end = self._add(client)
            end.stream.write(self.refusal)
            # Closing at once would reset the connection before the client has read the reason.
            self._loop.call_later(_REFUSAL_LINGER, end.stream.close)
            return
        try:
            server = sockets.connect_unix(self._path, timeout=0.0)
        except BlockingIOError:
            self._loop.call_later(_RETRY_INTERVAL, self._connect, client)
            return
        except OSError:
            # The server has just ended.
            client.close()
            return
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        end, other = self._add(client), _End(self._loop, server, lambda: None)
        end.connect(other)
        other.connect(end)

    def _add(self, client: socket.socket) -> _ClientEnd:
        end = _ClientEnd(self._loop, client, lambda: self._forget(end))
        self._connections.add(end)
        self._closed.clear()
        return end

    def _forget(self, connection: _ClientEnd) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._closed.set()

    def retire(self) -> None:
        """Ask the clients to make further calls on new connections."""
        for connection in self._connections:
            connection.retire()

    async def wait_closed(self) -> None:
        """Wait until no connection is open."""
        await self._closed.wait()

    def close(self) -> None:
        """Stop accepting and close every connection."""
        self.pause()
        for connection in list(self._connections):
            connection.stream.abort()
