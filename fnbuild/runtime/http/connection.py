"""One connection: requests are read, handed to the application one at a time, answered in order.

A connection holds at most one request and one read's worth of pipelined requests; then it stops
reading. No further request begins while a reply waits for a slow reader.
"""

import asyncio
import fcntl
import socket
import sys
import termios
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Awaitable, Callable, Optional, Tuple, Union

from ..event_loop import Stream, StreamOwner
from ..processor.pending_event import BodySource
from .messages import BodyWriter, Deferred, HttpRequest, Reply, encode_reply_head, write_reply
from .parser import HttpError, RequestHead
from .reader import HEAD, NOTHING, PART_OF_HEAD

if TYPE_CHECKING:
    from .server import HttpServer


# An application that needs no waiting is answered without a turn of the loop.
if sys.version_info >= (3, 12):
    start_task: Callable[..., "asyncio.Task[None]"] = partial(asyncio.Task, eager_start=True)
else:
    start_task = asyncio.Task


def unread_bytes(stream: Stream) -> int:
    """How many bytes have arrived that were not read yet."""
    return _queue_size(stream, termios.FIONREAD)


def unsent_bytes(stream: Stream) -> int:
    """How many bytes the peer has still to take, those held back here included."""
    return stream.unsent + _queue_size(stream, termios.TIOCOUTQ)


def _queue_size(stream: Stream, question: int) -> int:
    if stream.closed:
        return 0
    return int.from_bytes(fcntl.ioctl(stream.fd, question, bytes(4)), sys.byteorder)


READ = "read"  # between requests, or one is arriving
BUSY = "busy"  # the application has a request
STREAM = "stream"  # the answer has begun and its body is being produced
FLUSH = "flush"  # the answer waits for a slow reader
LINGER = "linger"  # no more requests are answered; further input is discarded
CLOSED = "closed"


# A body that lacks fewer bytes than this is complete with the next piece.
_MIN_DIRECT_READ = 32 * 1024
# So many requests that need no waiting are answered before other connections have their turn.
_MAX_CONSECUTIVE = 16
# How long an idle connection that was closed at a drain is read on for, in seconds.
_RETIRED_LINGER = 0.5

_INCOMPLETE_REQUEST = HttpError(400, "the connection ended inside the request")


class HttpConnection(StreamOwner):
    """One accepted socket.

    `listener` is the name of the listening socket it came by, `client` the peer's address and port
    (None on a unix socket). `closed` tells that nothing can be answered any more, `half_closed`
    that the client sends nothing more; most such clients are gone, some wait for their answer.
    """

    def __init__(
        self,
        server: "HttpServer",
        listener: str,
        sock: socket.socket,
        client: Optional[Tuple[str, int]],
    ) -> None:
        self.server = server
        self.listener = listener
        self.closed = False
        self.half_closed = False
        self.client = client
        # The loop itself keeps tasks by weak references only.
        self._task: "Optional[asyncio.Task[None]]" = None
        self._loop = server.loop
        self._limits = server.limits
        self._commands = bool(server.commands)
        self._reader = server.new_reader()
        self._request: Optional[HttpRequest] = None
        self._writer: Optional[BodyWriter] = None
        self._state = READ
        self._keep_alive = True
        self._advancing = False
        self._reading = True
        self._discarded = 0
        self._deadline: Optional[asyncio.TimerHandle] = None
        self._awaited = NOTHING  # what the deadline is for
        self._moved = 0
        self.stream = Stream(server.loop, sock, self)

    # What the stream calls.

    def received(self, data: bytes) -> None:
        if self._state == LINGER:
            self._discarded += len(data)
            if self._discarded > self._limits.linger_bytes:
                self.stream.abort()
            return
        self._reader.feed(data)
        if self._state == READ:
            if self._commands and self._is_command():
                self._close()
            else:
                self._advance()
        elif self._reading:
            self._reading = False
            self.stream.pause()

    def filled(self, count: int) -> None:
        if self._reader.filled(count):
            self.stream.into = None
            self._advance()

    def ended(self) -> None:
        self.half_closed = True
        if self._state == READ and self._reader.have != NOTHING:
            self._refuse(_INCOMPLETE_REQUEST)
        elif self._state == STREAM and self._writer and self._writer.endless:
            # The client does not seem to want the rest.
            self.stream.abort()
        elif self._state not in (BUSY, STREAM, FLUSH):
            self._close()

    def flushed(self) -> None:
        if self._state == FLUSH:
            self._disarm()
            self._next()
        elif self._state == STREAM and self._writer is not None:
            self._disarm()
            self._writer.flushed()

    def lost(self, error: Optional[Exception]) -> None:  # noqa: ARG002 - the stream's name
        self.closed = True
        self._state = CLOSED
        self._disarm()
        if self._writer is not None:
            self._writer.lost()
        self._reader = self.server.new_reader()
        self.server.forget(self)

    def _is_command(self) -> bool:
        """Whether this was no HTTP but one of the server's commands, which has run then."""
        reader = self._reader
        return reader.head is None and self.server.command(reader.begun(), self.stream.sock)

    # Reading and answering.

    def _advance(self) -> None:
        """Answer as many requests as have arrived whole."""
        reader = self._reader
        left = _MAX_CONSECUTIVE
        self._advancing = True
        try:
            while self._state == READ and left:
                request = reader.next()
                if request is None:
                    break
                self._dispatch(request[0], request[1])
                left -= 1
        except HttpError as refusal:
            self._refuse(refusal)
        finally:
            self._advancing = False
        if self._state == READ:
            if left:
                self._await_more()
            else:
                self._state = BUSY
                self._loop.call_soon(self._next)

    def _await_more(self) -> None:
        """What has arrived is used up, or is a part of a request."""
        have = self._reader.have
        if self.half_closed:
            if have == NOTHING:
                self._close()
            else:
                self._refuse(_INCOMPLETE_REQUEST)
            return
        if not self._reading:
            self._reading = True
            self.stream.resume()
        if have != self._awaited:
            self._awaited = have
            if have == PART_OF_HEAD:
                self._arm(self._limits.head_timeout, self._head_over)
            elif have == HEAD:
                self._await_body()
            else:
                self._disarm()

    def _await_body(self) -> None:
        reader = self._reader
        self._moved = reader.moved
        self._arm(self._limits.body_timeout, self._body_over)
        if reader.head is not None and reader.head.expects_continue and not reader.moved:
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if reader.missing >= _MIN_DIRECT_READ:
            # Straight to where it stays, which spares a copy and most of the reads.
            self.stream.into = reader.room

    def _dispatch(self, head: RequestHead, body: Union[bytes, bytearray]) -> None:
        self._state = BUSY
        if self._deadline is not None:
            self._disarm()
        request = HttpRequest(head, body, self, monotonic())
        self._request = request
        self.server.in_flight += 1
        try:
            answer = self.server.app(request)
        except Exception as error:  # noqa: BLE001 - the client gets an answer, whatever happened
            answer = self.server.failed(request, error)
        if isinstance(answer, Reply) or answer is None:
            self.answer(request, answer)
        elif not isinstance(answer, Deferred):
            self._task = start_task(self._wait(request, answer), loop=self._loop)

    async def _wait(self, request: HttpRequest, pending: Awaitable[Optional[Reply]]) -> None:
        reply = None
        try:
            reply = await pending
        except asyncio.CancelledError:
            raise  # The loop is ending: the connection ends too, without an answer.
        except Exception as error:  # noqa: BLE001 - the client gets an answer, whatever happened
            reply = self.server.failed(request, error)
        finally:
            self.answer(request, reply)

    def answer(self, request: HttpRequest, reply: Optional[Reply]) -> None:
        """Write the reply and go on; None ends the connection. A second answer is ignored."""
        if self._request is not request:
            return
        self._request = None
        self.server.in_flight -= 1
        if self.closed:
            self.server.settled()
            return
        stream = self.stream
        if reply is None:
            stream.abort()
            return
        head = request.head
        keep_alive = head.keep_alive and not reply.close and self._may_go_on()
        try:
            data = encode_reply_head(reply, keep_alive, head.version)
        except (ValueError, TypeError, AttributeError) as error:
            reply = self.server.failed(request, error)
            data = encode_reply_head(reply, keep_alive, head.version)
        self._keep_alive = keep_alive and not reply.close
        if head.method == "HEAD" or reply.status in (204, 304):
            stream.write(data)
        else:
            write_reply(stream, data, reply.body)
        self._answered()

    def _answered(self) -> None:
        """Continue once the answer that was written has been sent."""
        if not self.stream.unsent:
            self._next()
        else:
            self._state = FLUSH
            self.await_room()

    def await_room(self) -> None:
        """Start the client's time limit for reading the buffered data."""
        self._moved = unsent_bytes(self.stream)
        self._arm(self._limits.write_timeout, self._write_over)

    def begin(
        self, request: HttpRequest, reply: Reply, source: BodySource, size: Optional[int]
    ) -> BodyWriter:
        """Write the head of a reply whose body is written as it is produced."""
        writer = BodyWriter(self, request, reply, source, size)
        keep_alive = writer.keeps_alive and not reply.close and self._may_go_on()
        data = encode_reply_head(reply, keep_alive, request.version, writer.framing)
        self._keep_alive = keep_alive
        self._writer = writer
        if self.closed:
            writer.lost()
            return writer
        self._state = STREAM
        self.stream.write(data)
        if self.half_closed:
            self.ended()
        return writer

    def end(self, request: HttpRequest, whole: bool) -> None:
        """Finish an answer whose body is complete or was cut short."""
        if self._request is not request:
            return
        self._writer = None
        self._request = None
        self.server.in_flight -= 1
        if self.closed or self.stream.closed:
            self.server.settled()
        elif whole:
            self._answered()
        else:
            self._close()

    def _may_go_on(self) -> bool:
        """While parting a connection ends behind the last request that has arrived on it."""
        if not self.server.parting:
            return True
        return not self.server.expired and (
            self._reader.unread > 0 or unread_bytes(self.stream) > 0
        )

    def _next(self) -> None:
        """An answer is out: go on with the next request, or end."""
        if not self._keep_alive:
            self._end()
            return
        if self.stream.closed:
            return
        self._state = READ
        if self._advancing or self._idle():
            return
        self._advance()

    def _idle(self) -> bool:
        """Whether there is nothing to do until more arrives."""
        nothing = self._awaited == NOTHING and not self._reader.unread
        return nothing and self._reading and not self.half_closed

    # Ending.

    def _refuse(self, refusal: HttpError) -> None:
        """Answer what cannot be served, and end."""
        self.server.refused(refusal)
        reply = Reply.json(refusal.status, {"error": refusal.message}, close=True)
        head = self._reader.head
        bare = head is not None and head.method == "HEAD"
        write_reply(
            self.stream, encode_reply_head(reply, False, "1.1"), b"" if bare else reply.body
        )
        self._linger()

    def _end(self) -> None:
        """End behind an answer that announced it."""
        # A close with bytes unread would be a reset, which can cost the client its answer. While
        # parting the client did not ask for the end, so that more may be on its way.
        if self._reader.unread or unread_bytes(self.stream) or self.server.parting:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Close for writing, and read on until the client has closed too, within limits."""
        if self.half_closed:
            self._close()
            return
        self._state = LINGER
        self.stream.into = None
        self._reader = self.server.new_reader()
        self._arm(self._limits.linger_timeout, self._linger_over)
        if not self._reading:
            self._reading = True
            self.stream.resume()
        self.stream.write_eof()

    def _close(self) -> None:
        """Close as soon as everything is written."""
        self._state = LINGER
        self._arm(self._limits.linger_timeout, self._linger_over)
        self.stream.close()

    def retire(self) -> None:
        """Close if the connection is idle and nothing has arrived on it."""
        if self._state == READ and self._reader.have == NOTHING and not unread_bytes(self.stream):
            self._linger()
            # Only a request that is on its way this moment could still come; it gets no answer.
            self._arm(min(_RETIRED_LINGER, self._limits.linger_timeout), self._linger_over)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.stream.abort()

    # Deadlines. One timer serves all, since a connection does one thing at a time.

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, callback)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._awaited = -1

    def _head_over(self) -> None:
        seconds = self._limits.head_timeout
        self._refuse(HttpError(408, "the request's head did not arrive within %g s" % seconds))

    def _body_over(self) -> None:
        seconds = self._limits.body_timeout
        if self._moved != self._reader.moved:
            self._moved = self._reader.moved
            self._arm(seconds, self._body_over)
        else:
            self._refuse(HttpError(408, "nothing more of the body came within %g s" % seconds))

    def _write_over(self) -> None:
        unsent = unsent_bytes(self.stream)
        if unsent < self._moved:
            self._moved = unsent
            self._arm(self._limits.write_timeout, self._write_over)
        else:
            self.stream.abort()

    def _linger_over(self) -> None:
        self._moved = unsent_bytes(self.stream)
        if self._moved:
            # The answer itself is still on its way to a slow reader.
            self._arm(self._limits.write_timeout, self._write_over)
        else:
            self.stream.abort()
