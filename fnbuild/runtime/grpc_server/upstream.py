"""A client of the processor's private socket: HTTP/1.1 on connections that are kept open."""

import asyncio
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

Headers = Sequence[Tuple[str, str]]

_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD = 1024 * 1024


class Answer(NamedTuple):
    """An HTTP response. The names of headers are in lower case."""

    status: int
    headers: Dict[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    """A connection with at most one request in flight."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: Optional[asyncio.Transport] = None
        self._answer: "Optional[asyncio.Future[Answer]]" = None
        self._received = bytearray()
        self._status = 0
        self._headers: Dict[str, str] = {}
        self._end = 0
        self._body_size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def exchange(self, parts: Sequence[bytes]) -> Answer:
        """Send a request and return its answer; raise ConnectionError without one."""
        assert self._transport is not None
        self._answer = asyncio.get_event_loop().create_future()
        for part in parts:
            self._transport.write(part)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._end:
            try:
                self._read_head()
            except ValueError as error:
                self._fail(ConnectionError(str(error)))
                return
        if self._end and len(self._received) >= self._end:
            body = bytes(memoryview(self._received)[self._end - self._body_size : self._end])
            self._received = bytearray()
            self._end = 0
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(Answer(self._status, self._headers, body))
            if self._headers.get("connection", "").lower() == "close":
                self.close()

    def _read_head(self) -> None:
        end = self._received.find(_END_OF_HEAD)
        if end < 0:
            if len(self._received) > _MAX_HEAD:
                raise ValueError("the head of the answer is too long")
            return
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        self._status = int(first.split(" ", 2)[1])
        self._headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self._headers[name.strip().lower()] = value.strip()
        if "content-length" not in self._headers:
            raise ValueError("the answer has no Content-Length")
        self._body_size = int(self._headers["content-length"])
        self._end = end + len(_END_OF_HEAD) + self._body_size

    def connection_lost(self, error: Optional[Exception]) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed = True
        self._fail(ConnectionError("the processor has closed the connection"))

    def _fail(self, error: ConnectionError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()

    def close(self) -> None:
        """Close the connection, which cancels its request."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class Upstream:
    """The processor at the unix socket `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: List[_Connection] = []

    async def get(self, target: str, headers: Headers = ()) -> Answer:
        """Send a GET request."""
        return await self._send("GET", target, headers, ())

    async def post(self, target: str, headers: Headers, body: Sequence[bytes]) -> Answer:
        """Send a POST request whose body consists of these parts."""
        size = str(sum(len(part) for part in body))
        return await self._send("POST", target, [*headers, ("Content-Length", size)], body)

    async def _send(
        self, method: str, target: str, headers: Headers, body: Sequence[bytes]
    ) -> Answer:
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: localhost"]
        lines += ["%s: %s" % header for header in headers]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        connection = await self._connect()
        try:
            answer = await connection.exchange([head, *body])
        except BaseException:
            # Also if the call was cancelled: the processor drops its event.
            connection.close()
            raise
        if not connection.closed:
            self._idle.append(connection)
        return answer

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        loop = asyncio.get_event_loop()
        _transport, created = await loop.create_unix_connection(_Connection, self._path)
        return created
