"""Requests and replies of an application, and how replies are written."""

import abc
import json
import re
import socket
import struct
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Iterable, List, NamedTuple, Optional, Tuple, Union

from .. import wire
from ..streams import FileBody, Stream
from .parser import RequestHead

Body = Union[bytes, bytearray, memoryview, FileBody]

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# The server alone decides about the framing of messages and the lifetime of connections.
_FRAMING = frozenset(["content-length", "transfer-encoding", "connection", "keep-alive"])
_LINE_BREAKS = str.maketrans("\r\n\0", "   ")
_START_LINES = {
    status.value: ("HTTP/1.1 %d %s\r\n" % (status.value, status.phrase)).encode("ascii")
    for status in HTTPStatus
    if status.value >= 200
}

# The framing of a body of unknown size: chunks, or the end of the connection.
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CLOSE_DELIMITED = b""
# Below this size, joining head and body is cheaper than sending two pieces.
_JOINED_WRITE = 16 * 1024
# With a linger time of 0, closing sends a reset.
_RESET = struct.pack("ii", 1, 0)


class Deferred:
    """The return value of an application that will call `request.answer` itself.

    This saves the iteration of the loop that awaiting costs, most of the cost of a small request.
    """


DEFERRED = Deferred()


class ConnectionLimits(NamedTuple):
    """The limits of a connection; sizes are in bytes, times in seconds.

    `max_body` is `maxRequestBodySize` and `max_head` is `readBufferSize` of the http trigger.
    `head_timeout` starts with the first byte of a head, `body_timeout` and `write_timeout` with the
    last byte transferred. Between requests a connection may be idle forever. A connection that the
    server closes is still read, up to `linger_timeout` and `linger_bytes`, so that the client can
    read the reply.
    """

    max_body: int = 4 * 1024 * 1024
    max_head: int = 16 * 1024
    head_timeout: float = 60.0
    body_timeout: float = 60.0
    write_timeout: float = 60.0
    linger_timeout: float = 5.0
    linger_bytes: int = 64 * 1024 * 1024


class BodySource:
    """The producer of a body in pieces."""

    def credit(self, count: int) -> None:
        """Report that this many more bytes were sent to the client."""

    def cancel(self) -> None:
        """Report that the client no longer reads the body."""


class ReplyChannel(abc.ABC):
    """The connection of a request as far as its reply needs it.

    `closed` is True once no reply can be sent.
    """

    closed: bool
    stream: Stream

    @abc.abstractmethod
    def answer(self, request: "HttpRequest", reply: "Optional[Reply]") -> None:
        """Write the reply and continue; None ends the connection. Further replies are ignored."""

    @abc.abstractmethod
    def begin(
        self, request: "HttpRequest", reply: "Reply", source: BodySource, size: Optional[int]
    ) -> "BodyWriter":
        """Write the head of a reply whose body is written as it is produced."""

    @abc.abstractmethod
    def end(self, request: "HttpRequest", complete: bool) -> None:
        """Finish a reply whose body is complete or was cut short."""

    @abc.abstractmethod
    def await_room(self) -> None:
        """Start the client's time limit for reading the buffered data."""


class HttpRequest:
    """A request with its complete body.

    `path` is the percent-decoded path, `query` the raw text after the question mark. `received_at`
    is the time of the last byte (`time.monotonic()`).
    """

    __slots__ = ("body", "connection", "head", "method", "path", "query", "received_at")

    def __init__(
        self,
        head: RequestHead,
        body: Union[bytes, bytearray],
        connection: ReplyChannel,
        received_at: float,
    ) -> None:
        self.head = head
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.body = body
        self.connection = connection
        self.received_at = received_at

    def answer(self, reply: "Optional[Reply]") -> None:
        """Answer a request for which the application returned DEFERRED. Call this once.

        Called on the loop's thread, it writes at once. None ends the connection.
        """
        self.connection.answer(self, reply)

    def begin(self, reply: "Reply", source: BodySource, size: Optional[int]) -> "BodyWriter":
        """Answer with a body that is written as it is produced; see `answer`.

        `size` is the body's number of bytes if it is known. The reply's own body is not sent.
        """
        return self.connection.begin(self, reply, source, size)

    def header(self, name: str, default: Optional[str] = None) -> Optional[str]:
        """Return the header's value; names are case-insensitive, of several the last one counts."""
        return self.head.lookup().get(name.lower(), default)


class Reply:
    """A reply. The server adds Content-Length, Connection and Server.

    `close` ends the connection after the reply. `lines` from `encode_header_lines` replace
    `headers`.
    """

    __slots__ = ("body", "close", "headers", "lines", "status")

    def __init__(
        self,
        status: int,
        headers: Optional[List[Tuple[str, str]]] = None,
        body: Body = b"",
        close: bool = False,
        lines: bytes = b"",
    ) -> None:
        self.status = status
        self.headers = headers if headers is not None else []
        self.body = body
        self.close = close
        self.lines = lines

    @classmethod
    def json(
        cls,
        status: int,
        value: Any,
        headers: Optional[List[Tuple[str, str]]] = None,
        close: bool = False,
    ) -> "Reply":
        """Return a reply whose body is `value` as JSON."""
        fields = [("Content-Type", "application/json")] + (headers or [])
        return cls(status, fields, json.dumps(value).encode("utf-8"), close)


def encode_reply_head(
    reply: Reply, keep_alive: bool, version: str, framing: Optional[bytes] = None
) -> bytes:
    """Return the bytes before the reply's body; raise ValueError for what HTTP does not allow.

    `framing` replaces Content-Length if the body is not in the reply.
    """
    status = reply.status
    start = _START_LINES.get(status) or _start_line(status)
    body = reply.body
    if not isinstance(body, (bytes, bytearray, memoryview, FileBody)):
        raise TypeError("a reply's body must be bytes, not %s" % type(body).__name__)
    lines = reply.lines or encode_header_lines(reply.headers)
    if not keep_alive:
        end = b"Connection: close\r\n\r\n"
    elif version == "1.0":
        end = b"Connection: keep-alive\r\n\r\n"
    else:
        end = b"\r\n"
    if status == 204:
        return start + lines + end
    if framing is not None:
        return b"%s%s%s%s" % (start, lines, framing, end)
    return b"%s%sContent-Length: %d\r\n%s" % (start, lines, len(body), end)


def encode_header_lines(headers: Iterable[Tuple[str, str]], server: bool = True) -> bytes:
    """Return the lines of a header, including Server unless `server` is False.

    Line breaks in values become spaces and characters outside Latin-1 are sent as UTF-8, as Nuclio
    does (pkg/processor/trigger/http/trigger.go, valyala/fasthttp). Headers that frame a message are
    left out. Raises ValueError for invalid names.
    """
    last = "Server: nuclio" if server else None
    lines: List[str] = []
    for name, value in headers:
        prefix = _header_prefix(name)
        if prefix == "Server: ":
            last = prefix + value
        elif prefix:
            lines.append(prefix + value)
    if last is not None:
        lines.append(last)
    lines.append("")
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        lines = [line.translate(_LINE_BREAKS) for line in lines]
        text = "\r\n".join(lines)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b"\r\n".join([_encode_line(line) for line in lines])


def _encode_line(line: str) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8", "replace")


def _start_line(status: int) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError("a reply's status must be a number from 200 to 999, not %r" % (status,))
    return b"HTTP/1.1 %d Unknown\r\n" % status


@lru_cache(maxsize=512)
def _header_prefix(name: str) -> str:
    """Return the checked name with its colon; empty for headers that the server writes."""
    if not isinstance(name, str) or not _HEADER_NAME.match(name):
        raise ValueError("%r cannot be the name of a header" % (name,))
    lowered = name.lower()
    prefix = "" if lowered in _FRAMING else name + ": "
    if lowered == "server":
        prefix = "Server: "
    return prefix


def write_reply(stream: Stream, head: bytes, body: Body) -> None:
    """Write a head with its complete body."""
    if isinstance(body, FileBody):
        stream.write(head)
        stream.write_file(body)
    elif len(body) < _JOINED_WRITE:
        stream.write(head + body)
    else:
        stream.write_two(head, body)


class BodyWriter:
    """A writer for the pieces of a body, which gives its source credit for the bytes sent.

    `framing` is the header line that frames the body. The size of an `endless` body is unknown.
    `keeps_alive` is True if the connection may serve another request afterwards.
    """

    def __init__(
        self,
        connection: ReplyChannel,
        request: HttpRequest,
        reply: Reply,
        source: BodySource,
        size: Optional[int],
    ) -> None:
        self.endless = size is None
        if size is not None:
            self.framing = b"Content-Length: %d\r\n" % size
        else:
            self.framing = _CLOSE_DELIMITED if request.head.version == "1.0" else _CHUNKED
        self.keeps_alive = request.head.keep_alive and self.framing != _CLOSE_DELIMITED
        self._connection: Optional[ReplyChannel] = connection
        self._request = request
        self._source = source
        # The body of a reply to HEAD, for example, is not sent.
        self._has_no_body = request.method == "HEAD" or reply.status in (204, 304)
        self._outstanding = 0
        self._disconnected = False
        if self._has_no_body:
            source.cancel()

    def write(self, data: wire.Body) -> None:
        """Write a piece."""
        connection = self._connection
        if connection is None or self._has_no_body or self._disconnected or not data:
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

    def connection_lost(self) -> None:
        """Handle that the client closed the connection."""
        self._disconnected = True
        self._source.cancel()

    def end(self, complete: bool) -> None:
        """End the body; end an incomplete one so that the client notices."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        stream = connection.stream
        if (
            not complete
            and not self._has_no_body
            and self.framing == _CLOSE_DELIMITED
            and not stream.closed
        ):
            # Only a reset tells the client that the body is incomplete.
            stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            stream.abort()
        elif complete and self.framing == _CHUNKED and not self._has_no_body:
            stream.write(b"0\r\n\r\n")
        connection.end(self._request, complete or self._has_no_body)
