"""Writers for the bodies of replies: whole, or in pieces as they are produced."""

import socket
import struct
from typing import TYPE_CHECKING, Optional

from .. import wire
from ..exchange import ReplySource
from ..stream import FileData, Stream
from .messages import Body, Reply, Request

if TYPE_CHECKING:
    from .connection import Connection

# How a body of unknown size ends: by chunks, or with the connection.
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_UNTIL_CLOSE = b""
# Below this size head and body of a reply are cheaper copied together than sent as two pieces.
_JOINED = 16 * 1024
# With a linger time of 0, close sends a reset.
_RESET = struct.pack("ii", 1, 0)


def write_whole(stream: Stream, head: bytes, body: Body) -> None:
    """Write a head with its whole body."""
    if isinstance(body, FileData):
        stream.write(head)
        stream.write_file(body)
    elif len(body) < _JOINED:
        stream.write(head + body)
    else:
        stream.write_two(head, body)


class BodyWriter:
    """Writes the pieces of one body, and gives its source credit for the bytes that were sent.

    `framing` is the header line that tells the client where the body ends. The size of an `endless`
    body is unknown. `keeps_alive` is True if the connection may serve another request afterwards.
    """

    def __init__(
        self,
        connection: "Connection",
        request: Request,
        reply: Reply,
        source: ReplySource,
        size: Optional[int],
    ) -> None:
        self.endless = size is None
        if size is not None:
            self.framing = b"Content-Length: %d\r\n" % size
        else:
            self.framing = _UNTIL_CLOSE if request.version == "1.0" else _CHUNKED
        self.keeps_alive = request.keep_alive and self.framing != _UNTIL_CLOSE
        self._connection: Optional[Connection] = connection
        self._request = request
        self._source = source
        # The body of a reply to HEAD, for example, is not sent.
        self._bare = request.method == "HEAD" or reply.status in (204, 304)
        self._outstanding = 0
        self._lost = False
        if self._bare:
            source.cancel()

    def write(self, data: wire.Body) -> None:
        """Write a piece."""
        connection = self._connection
        if connection is None or self._bare or self._lost or not data:
            return
        if self.framing == _CHUNKED:
            data = b"".join([b"%x\r\n" % len(data), data, b"\r\n"])
        self._outstanding += len(data)
        connection.stream.write(data)
        if connection.stream.unsent:
            connection.await_room()
        else:
            self.flushed()

    def flushed(self) -> None:
        """Handle that all data written so far was sent."""
        count, self._outstanding = self._outstanding, 0
        self._source.credit(count)

    def lost(self) -> None:
        """Handle that the client closed the connection."""
        self._lost = True
        self._source.cancel()

    def end(self, whole: bool) -> None:
        """End the body; end an incomplete one so that the client notices."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        stream = connection.stream
        if not whole and not self._bare and self.framing == _UNTIL_CLOSE and not stream.closed:
            # Only a reset tells the client that the body is incomplete.
            stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            stream.abort()
        elif whole and self.framing == _CHUNKED and not self._bare:
            stream.write(b"0\r\n\r\n")
        connection.end(self._request, whole or self._bare)
