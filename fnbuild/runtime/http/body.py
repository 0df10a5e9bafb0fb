"""The bodies of requests while they arrive: of a known size, or in chunks.

A body takes bytes by `feed` and says how many of them were its own. Its memory grows with what has
arrived, never with what a client merely announces.
"""

import re
from typing import Any, Union

from .parser import Refusal, check_field

# A body's memory is first this large, then grows by this factor up to the announced size.
_FIRST = 1024 * 1024
_FACTOR = 4

_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb"(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"(?:[\t !#-\[\]-~]|\\[\t -~])*\"))?)*\Z"
)
_CHUNK_LINE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,15}(?:;[\t -~]*)?\r?\Z")
_CHUNK_LINE_CAP = 256
# Framing beyond what the data itself warrants (extensions, chiefly) that one body may have.
_EXCESS_CAP = 16 * 1024


def too_large(size: Union[int, str], limit: int) -> Refusal:
    """The refusal of a body above `limit` bytes; `size` is its size or what is known of it."""
    return Refusal(
        413,
        "the request's body has %s bytes and the limit is %d bytes; "
        "raise maxRequestBodySize of the http trigger to accept it" % (size, limit),
    )


class SizedBody:
    """A body of `length` bytes; `data` is what becomes of it."""

    __slots__ = ("_at", "_length", "_memory", "data", "done")

    def __init__(self, length: int) -> None:
        self._memory: Union[bytearray, memoryview] = bytearray(min(length, _FIRST))
        self.data: Any = self._memory
        self.done = False
        self._length = length
        self._at = 0

    @property
    def missing(self) -> int:
        return self._length - self._at

    def feed(self, chunk: bytes, start: int = 0) -> int:
        """Take what belongs to the body from `chunk[start:]`; the index behind it comes back."""
        count = min(len(chunk) - start, self._length - self._at)
        end = self._at + count
        self._grow(end)
        self._memory[self._at : end] = memoryview(chunk)[start : start + count]
        self._at = end
        self.done = end == self._length
        return start + count

    def room(self) -> memoryview:
        """Where the next bytes may be written in place; `filled` then tells how many were."""
        self._grow(self._at + 1)
        return memoryview(self._memory)[self._at :]

    def filled(self, count: int) -> None:
        self._at += count
        self.done = self._at == self._length

    def _grow(self, end: int) -> None:
        memory = self._memory
        size = len(memory)
        while size < end:
            size = min(size * _FACTOR, self._length)
        if size != len(memory) and isinstance(memory, bytearray):
            memory.extend(bytes(size - len(memory)))


class ChunkedBody:
    """A body in chunks, up to `limit` bytes of data and `trailer_limit` bytes of trailer."""

    __slots__ = ("_excess", "_left", "_limit", "_rest", "_step", "_trailer", "data", "done")

    def __init__(self, limit: int, trailer_limit: int) -> None:
        self.data = bytearray()
        self.done = False
        self._limit = limit
        self._trailer = trailer_limit
        self._rest = b""
        self._left = 0
        self._excess = 0
        self._step = self._size

    def feed(self, chunk: bytes, start: int = 0) -> int:
        """Take what belongs to the body from `chunk[start:]`; the index behind it comes back.

        Raises Refusal for wrong framing and for a body above the limit.
        """
        kept = len(self._rest)
        at = start
        if kept:
            chunk = self._rest + chunk[start:]
            self._rest = b""
            at = 0
        while not self.done:
            behind = self._step(chunk, at)
            if behind < 0:
                self._rest = bytes(chunk[at:])
                behind = len(chunk)
                break
            at = behind
        else:
            behind = at
        return behind - kept + start if kept else behind

    # Each step reads one piece at `at` and gives back the index behind it, or -1 to wait for more.

    def _size(self, chunk: bytes, at: int) -> int:
        end = chunk.find(b"\r\n", at, at + _CHUNK_LINE_CAP)
        if end < 0:
            if not _CHUNK_LINE_BEGUN.match(chunk, at) or len(chunk) - at >= _CHUNK_LINE_CAP:
                raise Refusal(400, "the size of a chunk cannot be read")
            return -1
        match = _CHUNK_LINE.match(chunk, at, end)
        if not match:
            raise Refusal(400, "the line in front of a chunk is no hexadecimal size")
        size = int(match.group(1), 16)
        self._excess = max(0, self._excess + (end - at) - 16 - 2 * size)
        if self._excess > _EXCESS_CAP:
            raise Refusal(400, "the chunks have far more framing than data")
        total = len(self.data) + size
        if total > self._limit:
            raise too_large("at least %d" % total, self._limit)
        self._left = size
        self._step = self._data if size else self._trailers
        return end + 2

    def _data(self, chunk: bytes, at: int) -> int:
        piece = memoryview(chunk)[at : at + self._left]
        if not piece:
            return -1
        self.data += piece
        self._left -= len(piece)
        if not self._left:
            self._step = self._data_end
        return at + len(piece)

    def _data_end(self, chunk: bytes, at: int) -> int:
        ending = chunk[at : at + 2]
        if ending == b"\r\n":
            self._step = self._size
            return at + 2
        if b"\r\n".startswith(ending):
            return -1
        raise Refusal(400, "a chunk does not end where its size says")

    def _trailers(self, chunk: bytes, at: int) -> int:
        end = chunk.find(b"\r\n", at)
        size = (end if end >= 0 else len(chunk)) - at + 2
        if size > self._trailer:
            raise Refusal(431, "the trailer behind the body is too long")
        if end < 0:
            return -1
        if end == at:
            self.done = True
        else:
            # Checked as strictly as a header, then dropped: no handler expects one.
            check_field(chunk[at:end])
        self._trailer -= size
        return end + 2
