"""Whole requests out of the bytes of a connection, without a socket.

Bodies have a known size or arrive in chunks. The memory of a body grows with the bytes that have
arrived, never with the size that a client announces.
"""

import re
from typing import Any, Callable, Optional, Tuple, Union

from .parser import HttpError, RequestHead, check_partial_head, check_trailer_field, parse_head

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

# The progress of the next request.
NOTHING = 0
PART_OF_HEAD = 1
HEAD = 2

_CR = 13


def body_too_large(size: Union[int, str], limit: int) -> HttpError:
    """Return the error for a body above `limit` bytes; `size` may be approximate."""
    return HttpError(
        413,
        "the request's body has %s bytes and the limit is %d bytes; "
        "raise maxRequestBodySize of the http trigger to accept it" % (size, limit),
    )


class SizedBody:
    """A body of `length` bytes, collected in `data`."""

    __slots__ = ("_length", "_memory", "_offset", "data", "done")

    def __init__(self, length: int) -> None:
        self._memory: Union[bytearray, memoryview] = bytearray(min(length, _INITIAL_SIZE))
        self.data: Any = self._memory
        self.done = False
        self._length = length
        self._offset = 0

    @property
    def missing(self) -> int:
        """The number of bytes that have not arrived yet."""
        return self._length - self._offset

    def feed(self, chunk: bytes, start: int = 0) -> int:
        """Take the body's bytes from `chunk[start:]`; return the index after them."""
        count = min(len(chunk) - start, self._length - self._offset)
        end = self._offset + count
        self._grow(end)
        self._memory[self._offset : end] = memoryview(chunk)[start : start + count]
        self._offset = end
        self.done = end == self._length
        return start + count

    def get_buffer(self) -> memoryview:
        """Return the memory for the next bytes; call `buffer_updated` once they are there."""
        self._grow(self._offset + 1)
        return memoryview(self._memory)[self._offset :]

    def buffer_updated(self, count: int) -> None:
        """Report bytes read into `get_buffer()`."""
        self._offset += count
        self.done = self._offset == self._length

    def _grow(self, end: int) -> None:
        memory = self._memory
        size = len(memory)
        while size < end:
            size = min(size * _GROWTH_FACTOR, self._length)
        if size != len(memory) and isinstance(memory, bytearray):
            memory.extend(bytes(size - len(memory)))


class ChunkedBody:
    """A body in chunks, up to `limit` bytes of data and `trailer_limit` bytes of trailer."""

    __slots__ = ("_excess", "_limit", "_remaining", "_rest", "_step", "_trailer", "data", "done")

    def __init__(self, limit: int, trailer_limit: int) -> None:
        self.data = bytearray()
        self.done = False
        self._limit = limit
        self._trailer = trailer_limit
        self._rest = b""
        self._remaining = 0
        self._excess = 0
        self._step = self._read_size

    def feed(self, chunk: bytes, start: int = 0) -> int:
        """Take the body's bytes from `chunk[start:]`; return the index after them.

        Raises HttpError for wrong framing and for a body above the limit.
        """
        kept = len(self._rest)
        position = start
        if kept:
            chunk = self._rest + chunk[start:]
            self._rest = b""
            position = 0
        while not self.done:
            end = self._step(chunk, position)
            if end < 0:
                self._rest = bytes(chunk[position:])
                end = len(chunk)
                break
            position = end
        else:
            end = position
        return end - kept + start if kept else end

    # Each step reads one piece at `position` and returns the index after it, or -1 for more bytes.

    def _read_size(self, chunk: bytes, position: int) -> int:
        end = chunk.find(b"\r\n", position, position + _MAX_CHUNK_LINE)
        if end < 0:
            if (
                not _PARTIAL_CHUNK_LINE.match(chunk, position)
                or len(chunk) - position >= _MAX_CHUNK_LINE
            ):
                raise HttpError(400, "the size of a chunk is invalid")
            return -1
        match = _CHUNK_LINE.match(chunk, position, end)
        if not match:
            raise HttpError(400, "the line before a chunk is not a hexadecimal size")
        size = int(match.group(1), 16)
        self._excess = max(0, self._excess + (end - position) - 16 - 2 * size)
        if self._excess > _MAX_EXCESS:
            raise HttpError(400, "the chunks have far more framing than data")
        total = len(self.data) + size
        if total > self._limit:
            raise body_too_large("at least %d" % total, self._limit)
        self._remaining = size
        self._step = self._read_data if size else self._read_trailers
        return end + 2

    def _read_data(self, chunk: bytes, position: int) -> int:
        piece = memoryview(chunk)[position : position + self._remaining]
        if not piece:
            return -1
        self.data += piece
        self._remaining -= len(piece)
        if not self._remaining:
            self._step = self._read_data_end
        return position + len(piece)

    def _read_data_end(self, chunk: bytes, position: int) -> int:
        ending = chunk[position : position + 2]
        if ending == b"\r\n":
            self._step = self._read_size
            return position + 2
        if b"\r\n".startswith(ending):
            return -1
        raise HttpError(400, "a chunk does not end where its size says")

    def _read_trailers(self, chunk: bytes, position: int) -> int:
        end = chunk.find(b"\r\n", position)
        size = (end if end >= 0 else len(chunk)) - position + 2
        if size > self._trailer:
            raise HttpError(431, "the trailer after the body is too long")
        if end < 0:
            return -1
        if end == position:
            self.done = True
        else:
            # Checked as strictly as a header, then dropped: no handler expects a trailer.
            check_trailer_field(chunk[position:end])
        self._trailer -= size
        return end + 2


class RequestReader:
    """A reader that takes bytes by `feed` and returns requests by `next`, in their order.

    `progress` is that of the next request. `head` is its head once that is complete, while the body
    is still arriving, and `pieces` counts the pieces of that body. `allocate_body` returns the
    memory for a body of known size.
    """

    __slots__ = (
        "_allocate_body",
        "_body",
        "_buffer",
        "_checked",
        "_max_body",
        "_max_head",
        "_offset",
        "head",
        "pieces",
        "progress",
    )

    def __init__(
        self,
        max_head: int,
        max_body: int,
        allocate_body: Callable[[int], SizedBody] = SizedBody,
    ) -> None:
        self.progress = NOTHING
        self.head: Optional[RequestHead] = None
        self.pieces = 0
        self._max_head = max_head
        self._max_body = max_body
        self._allocate_body = allocate_body
        self._buffer = b""
        self._offset = 0  # where in the buffer the unread bytes begin
        self._checked = 0  # how many bytes of a head that has begun need no further look
        self._body: Union[SizedBody, ChunkedBody, None] = None

    @property
    def unread(self) -> int:
        """The number of bytes after the last request."""
        return len(self._buffer) - self._offset

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer = self._buffer[self._offset :] + data if self._buffer else data
        self._offset = 0

    def partial_head(self) -> bytes:
        """Return the bytes of an incomplete head."""
        return self._buffer[self._offset :]

    def next(self) -> Optional[Tuple[RequestHead, Any]]:
        """Return the next complete request, or None. Raises HttpError."""
        if self._body is not None:
            return self._continue_body()
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[self._offset] == _CR:
            self._skip_empty_lines()
            buffer = self._buffer
        position = self._offset
        end = buffer.find(b"\r\n\r\n", position)
        if end < 0 or end - position > self._max_head:
            self._await_head()
            return None
        head = parse_head(buffer[position:end])
        self._checked = 0
        position = end + 4
        length = head.length
        if length is None:
            self._body = ChunkedBody(self._max_body, self._max_head)
        elif length > self._max_body:
            self.head = head
            raise body_too_large(length, self._max_body)
        elif len(buffer) - position >= length:
            self._consume(position + length)
            self.progress = NOTHING
            return head, buffer[position : position + length]
        else:
            self._body = self._allocate_body(length)
        self.head = head
        self.pieces = 0
        self.progress = HEAD
        self._consume(position)
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
        self.pieces += 1
        return self._body.done

    def _skip_empty_lines(self) -> None:
        """Skip line breaks that old clients send after a body."""
        position = self._offset
        while self._buffer.startswith(b"\r\n", position):
            position += 2
        self._consume(position)

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
        self.progress = PART_OF_HEAD if head else NOTHING

    def _consume(self, position: int) -> None:
        """Drop everything before `position`."""
        if position == len(self._buffer):
            self._buffer = b""
            position = 0
        self._offset = position

    def _continue_body(self) -> Optional[Tuple[RequestHead, Any]]:
        """Continue the body; return the request if it is complete."""
        body = self._body
        head = self.head
        assert body is not None
        assert head is not None
        if self._buffer:
            self._consume(body.feed(self._buffer, self._offset))
            self.pieces += 1
        if not body.done:
            return None
        self._body = None
        self.head = None
        self.progress = NOTHING
        return head, body.data
