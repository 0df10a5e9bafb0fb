"""From bytes to whole requests, without a socket in sight."""

from typing import Any, Callable, Optional, Tuple, Union

from .body import ChunkedBody, SizedBody, too_large
from .parser import Head, HeadParser, Refusal, check_partial

# What a reader has of the next request.
NOTHING = 0
PART_OF_HEAD = 1
HEAD = 2

_CR = 13


class RequestReader:
    """Takes bytes by `feed`, gives requests by `next`, in their order.

    `have` is how far the next request has come. `head` is its head once that is whole, while the
    body is still arriving, and `moved` counts the pieces of that body. `sized` gives the memory for
    bodies of a known size.
    """

    __slots__ = (
        "_at",
        "_body",
        "_buffer",
        "_checked",
        "_max_body",
        "_max_head",
        "_parse",
        "_sized",
        "have",
        "head",
        "moved",
    )

    def __init__(
        self,
        parser: HeadParser,
        max_head: int,
        max_body: int,
        sized: Callable[[int], SizedBody] = SizedBody,
    ) -> None:
        self.have = NOTHING
        self.head: Optional[Head] = None
        self.moved = 0
        self._parse = parser.parse
        self._max_head = max_head
        self._max_body = max_body
        self._sized = sized
        self._buffer = b""
        self._at = 0  # where in the buffer the unread bytes begin
        self._checked = 0  # how many bytes of a head that has begun need no further look
        self._body: Union[SizedBody, ChunkedBody, None] = None

    @property
    def unread(self) -> int:
        """How many bytes behind the last request are still to be looked at."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Append what has arrived."""
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0

    def begun(self) -> bytes:
        """The bytes of a head that is not whole yet."""
        return self._buffer[self._at :]

    def next(self) -> Optional[Tuple[Head, Any]]:
        """The next whole request; None when it needs more bytes. Raises Refusal."""
        if self._body is not None:
            return self._continue()
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
            raise too_large(length, self._max_body)
        elif len(buffer) - at >= length:
            self._used(at + length)
            self.have = NOTHING
            return head, buffer[at : at + length]
        else:
            self._body = self._sized(length)
        self.head = head
        self.moved = 0
        self.have = HEAD
        self._used(at)
        return self._continue()

    @property
    def missing(self) -> int:
        """How many bytes the body still needs; 0 where nobody knows."""
        return self._body.missing if isinstance(self._body, SizedBody) else 0

    def room(self) -> memoryview:
        """Where the next bytes of a body of known size may be written; `filled` then tells it."""
        assert isinstance(self._body, SizedBody)
        return self._body.room()

    def filled(self, count: int) -> bool:
        """So many bytes were written to `room`; whether the body is whole by that."""
        assert isinstance(self._body, SizedBody)
        self._body.filled(count)
        self.moved += 1
        return self._body.done

    def _skip_empty_lines(self) -> None:
        """Old clients send a line break behind a body; it belongs to nothing."""
        at = self._at
        while self._buffer.startswith(b"\r\n", at):
            at += 2
        self._used(at)

    def _await_head(self) -> None:
        begun = self.begun()
        if len(begun) > self._max_head:
            raise Refusal(
                431,
                "the request's head has more than %d bytes; raise readBufferSize of the http "
                "trigger to accept it" % self._max_head,
            )
        if begun and begun != b"\r":
            self._checked = check_partial(begun, self._checked)
        self.have = PART_OF_HEAD if begun else NOTHING

    def _used(self, at: int) -> None:
        """Everything before `at` is used up."""
        if at == len(self._buffer):
            self._buffer = b""
            at = 0
        self._at = at

    def _continue(self) -> Optional[Tuple[Head, Any]]:
        """Go on with a body."""
        body = self._body
        head = self.head
        assert body is not None
        assert head is not None
        if self._buffer:
            self._used(body.feed(self._buffer, self._at))
            self.moved += 1
        if not body.done:
            return None
        self._body = None
        self.head = None
        self.have = NOTHING
        return head, body.data
