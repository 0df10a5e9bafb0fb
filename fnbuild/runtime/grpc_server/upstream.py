"""A client of the processor's private socket: HTTP/1.1 on connections that are kept open."""

import asyncio
from typing import Dict, List, NamedTuple, Sequence, Tuple

Headers = Sequence[Tuple[str, str]]

# Bytes of an answer that are read ahead; the head of an answer is shorter.
_READ_AHEAD = 1024 * 1024


class Answer(NamedTuple):
    """An HTTP response. The names of headers are in lower case."""

    status: int
    headers: Dict[str, str]
    body: bytes


class Upstream:
    """The processor at the unix socket `path`. Requests raise OSError without an answer."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: List[Tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, target: str, headers: Headers = ()) -> Answer:
        """Send a GET request."""
        return await self._send("GET " + target, headers, ())

    async def post(self, target: str, headers: Headers, body: Sequence[bytes]) -> Answer:
        """Send a POST request whose body consists of these parts."""
        size = str(sum(len(part) for part in body))
        return await self._send("POST " + target, [*headers, ("Content-Length", size)], body)

    async def _send(self, request: str, headers: Headers, body: Sequence[bytes]) -> Answer:
        lines = [request + " HTTP/1.1", "Host: localhost", *map("%s: %s".__mod__, headers)]
        reader, writer = await self._connect()
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
            for part in body:
                writer.write(part)
            answer = await _read_answer(reader)
        except BaseException as error:
            # Also if the call was cancelled: the processor drops its event.
            writer.transport.abort()
            if isinstance(error, (EOFError, ValueError, KeyError, asyncio.LimitOverrunError)):
                raise ConnectionError("no complete answer: %r" % error) from None
            raise
        if answer.headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer

    async def _connect(self) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_unix_connection(self._path, limit=_READ_AHEAD)


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    fields = [line.partition(":") for line in lines]
    headers = {name.lower(): value.strip() for name, _, value in fields}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(first.split(" ", 2)[1]), headers, body)
