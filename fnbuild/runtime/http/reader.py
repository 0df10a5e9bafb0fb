"""Whole requests out of the bytes of a connection, without a socket.

Bodies have a known size or arrive in chunks. The memory of a body grows with the bytes that have
arrived, never with the size that a client announces.
"""

import re
from typing import Any, Callable, Optional, Tuple, Union

from .parser import HeadParser, HttpError, RequestHead, check_partial_head, check_trailer_field

# A body's memory starts with this size and grows by this factor up to the announced size.
_INITIAL_SIZE = 1024 * 1024
_GROWTH_FACTOR = 4

_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb"(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|\"(?:[\t !#-\[\]-~]|\\[\t -~])*\"))?)*\Z"
)
_PARTIAL_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{0,15}(?:;[\t -~]*)?\r?\Z")
_MAX_CHUNK_LINE = 256
# Bytes of framing (mostly extensions) that one body may have beyond what its data needs.
_MAX_EXCESS = 16 * 1024


def body_too_large(size: Union[int, str], limit: int) -> HttpError:
    """Return the error for a body above `limit` bytes; `size` may be approximate."""
    return HttpError(
        413,
        "the request's body has %s bytes and the limit is %d bytes; "
        "raise maxRequestBodySize of the http trigger to accept it" % (size, limit),
    )


class SizedBody:
    """A body of `length` bytes, collected in `data`."""

    __slots__ = ("_at", "_length", "_memory", "data", "done")

    def __init__(self, length: int) -> None:
        self._memory: Union[bytearray, memoryview] = bytearray(min(length, _INITIAL_SIZE))
        self.data: Any = self._memory
        self.done = False
        self._length = length
        self._at = 0

    @property
    def missing(self) -> int:
        return self._length - self._at

    def feed(self, chunk: bytes, start: int = 0) -> int:
        """Take the body's bytes from `chunk[start:]`; return the index after them."""
        count = min(len(chunk) - start, self._length - self._at)
        end = self._at + count
        self._grow(end)
        self._memory[self._at : end] = memoryview(chunk)[start : start + count]
        self._at = end
        self.done = end == self._length
        return start + count

    def get_buffer(self) -> memoryview:
        """Return the memory for the next bytes; call `buffer_updated` once they are there."""
        self._grow(self._at + 1)
        return memoryview(self._memory)[self._at :]

    def buffer_updated(self, count: int) -> None:
        self._at += count
        self.done = self._at == self._length

    def _grow(self, end: int) -> None:
        memory = self._memory
        size = len(memory)
        while size < end:
            size = min(size * _GROWTH_FACTOR, self._length)
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
        """Take the body's bytes from `chunk[start:]`; return the index after them.

        Raises HttpError for wrong framing and for a body above the limit.
        """
        kept = len(self._rest)
        at = start
        if kept:
            chunk = self._rest + chunk[start:]
            self._rest = b""
            at = 0
        while not self.done:
            end = self._step(chunk, at)
            if end < 0:
                self._rest = bytes(chunk[at:])
                end = len(chunk)
                break
            at = end
        else:
            end = at
        return end - kept + start if kept else end

    # Each step reads one piece at `at` and returns the index after it, or -1 to wait for more.

    def _size(self, chunk: bytes, at: int) -> int:
        end = chunk.find(b"\r\n", at, at + _MAX_CHUNK_LINE)
        if end < 0:
            if not _PARTIAL_CHUNK_LINE.match(chunk, at) or len(chunk) - at >= _MAX_CHUNK_LINE:
                raise HttpError(400, "the size of a chunk is invalid")
            return -1
        match = _CHUNK_LINE.match(chunk, at, end)
        if not match:
            raise HttpError(400, "the line before a chunk is not a hexadecimal size")
        size = int(match.group(1), 16)
        self._excess = max(0, self._excess + (end - at) - 16 - 2 * size)
        if self._excess > _MAX_EXCESS:
            raise HttpError(400, "the chunks have far more framing than data")
        total = len(self.data) + size
        if total > self._limit:
            raise body_too_large("at least %d" % total, self._limit)
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
        raise HttpError(400, "a chunk does not end where its size says")

    def _trailers(self, chunk: bytes, at: int) -> int:
        end = chunk.find(b"\r\n", at)
        size = (end if end >= 0 else len(chunk)) - at + 2
        if size > self._trailer:
            raise HttpError(431, "the trailer after the body is too long")
        if end < 0:
            return -1
        if end == at:
            self.done = True
        else:
            # Checked as strictly as a header, then dropped: no handler expects a trailer.
            check_trailer_field(chunk[at:end])
        self._trailer -= size
        return end + 2


# The progress of the next request.
NOTHING = 0
PART_OF_HEAD = 1
HEAD = 2

_CR = 13


class RequestReader:
    """Takes bytes by `feed` and returns requests by `next`, in their order.

    `have` is the progress of the next request. `head` is its head once that is complete, while the
    body is still arriving, and `moved` counts the pieces of that body. `allocate_body` returns the
    memory for a body of known size.
    """

    __slots__ = (
        "_allocate_body",
        "_at",
        "_body",
        "_buffer",
        "_checked",
        "_max_body",
        "_max_head",
        "_parse",
        "have",
        "head",
        "moved",
    )

    def __init__(
        self,
        parser: HeadParser,
        max_head: int,
        max_body: int,
        allocate_body: Callable[[int], SizedBody] = SizedBody,
    ) -> None:
        self.have = NOTHING
        self.head: Optional[RequestHead] = None
        self.moved = 0
        self._parse = parser.parse
        self._max_head = max_head
        self._max_body = max_body
        self._allocate_body = allocate_body
        self._buffer = b""
        self._at = 0  # where in the buffer the unread bytes begin
        self._checked = 0  # how many bytes of a head that has begun need no further look
        self._body: Union[SizedBody, ChunkedBody, None] = None

    @property
    def unread(self) -> int:
        """The number of bytes after the last request."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0

    def partial_head(self) -> bytes:
        """Return the bytes of an incomplete head."""
        return self._buffer[self._at :]

    def next(self) -> Optional[Tuple[RequestHead, Any]]:
        """Return the next complete request, or None. Raises HttpError."""
        if self._body is not None:
            return self._continue_body()
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[self._at] == _CR:
            self._skip_empty_lines()
            buffer = self._buffer
        at = self._at
        end = buffer.find(b"\r\n\r\n", at)
        if end < 0 or end - at > self._max_head:
            self._await_head()
            return None
        head = self._parse(buffer[at:end])
        self._checked = 0
        at = end + 4
        length = head.length
        if length is None:
            self._body = ChunkedBody(self._max_body, self._max_head)
        elif length > self._max_body:
            self.head = head
            raise body_too_large(length, self._max_body)
        elif len(buffer) - at >= length:
            self._consume(at + length)
            self.have = NOTHING
            return head, buffer[at : at + length]
        else:
            self._body = self._allocate_body(length)
        self.head = head
        self.moved = 0
        self.have = HEAD
        self._consume(at)
        return self._continue_body()

    @property
    def missing(self) -> int:
        """The number of bytes that the body still needs; 0 if it is unknown."""
        return self._body.missing if isinstance(self._body, SizedBody) else 0

    def get_buffer(self) -> memoryview:
        """Return the memory for the next bytes of a body of known size; see `buffer_updated`."""
        assert isinstance(self._body, SizedBody)
        return self._body.get_buffer()

    def buffer_updated(self, count: int) -> bool:
        """Report bytes read into `get_buffer()`; return True if the body is complete."""
        assert isinstance(self._body, SizedBody)
        self._body.buffer_updated(count)
        self.moved += 1
        return self._body.done

    def _skip_empty_lines(self) -> None:
        """Skip line breaks that old clients send after a body."""
        at = self._at
        while self._buffer.startswith(b"\r\n", at):
            at += 2
        self._consume(at)

    def _await_head(self) -> None:
        head = self.partial_head()
        if len(head) > self._max_head:
            raise HttpError(
                431,
                "the request's head has more than %d bytes; raise readBufferSize of the http "
                "trigger to accept it" % self._max_head,
            )
        if head and head != b"\r":
            self._checked = check_partial_head(head, self._checked)
        self.have = PART_OF_HEAD if head else NOTHING

    def _consume(self, at: int) -> None:
        """Drop everything before `at`."""
        if at == len(self._buffer):
            self._buffer = b""
            at = 0
        self._at = at

    def _continue_body(self) -> Optional[Tuple[RequestHead, Any]]:
        """Continue the body; return the request if it is complete."""
        body = self._body
        head = self.head
        assert body is not None
        assert head is not None
        if self._buffer:
            self._consume(body.feed(self._buffer, self._at))
            self.moved += 1
        if not body.done:
            return None
        self._body = None
        self.head = None
        self.have = NOTHING
        return head, body.data
