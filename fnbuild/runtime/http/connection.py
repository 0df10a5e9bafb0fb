"""One connection: requests are read, handed to the application one at a time, answered in order.

A connection holds at most one request and one read's worth of what was pipelined behind it; then
it stops reading. While an answer waits for a slow reader no further request is begun.
"""

import asyncio
import fcntl
import termios
from time import monotonic
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Optional, Tuple, Union

from .body import ChunkedBody, SizedBody, too_large
from .messages import Reply, Request, encode_head
from .parser import Head, Refusal, check_partial

if TYPE_CHECKING:
    from .server import Server

# Where a connection stands.
HEAD = "head"  # between requests, or a head is arriving
BODY = "body"  # a body is arriving
BUSY = "busy"  # the application has the request
FLUSH = "flush"  # the answer waits for a slow reader
LINGER = "linger"  # nothing more is answered; what still comes is thrown away
CLOSED = "closed"

# Below this size head and body of a reply are worth joining, so that they leave as one packet.
_JOINED = 64 * 1024


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket.

    `listener` is the name of the listening socket it came by, `client` the peer's address and port
    (None on a unix socket). `closed` tells that nothing can be answered any more, `half_closed`
    that the client sends nothing more; most such clients are gone, some wait for their answer.
    """

    def __init__(self, server: "Server", listener: str) -> None:
        self.server = server
        self.listener = listener
        self.closed = False
        self.half_closed = False
        self.client: Optional[Tuple[str, int]] = None
        self.transport: Any = None
        self._loop = server.loop
        self._limits = server.limits
        self._parse = server.parser.parse
        self._state = HEAD
        self._buffer = b""
        self._at = 0  # where in the buffer the unread bytes begin
        self._head: Optional[Head] = None
        self._body: Union[SizedBody, ChunkedBody, None] = None
        self._keep_alive = True
        self._begun = False  # whether a part of a head is there, and its deadline runs
        self._advancing = False
        self._reading = True
        self._writable = True
        self._discarded = 0
        self._progress = 0.0
        self._timer: Optional[asyncio.TimerHandle] = None
        # The loop itself keeps tasks by weak references only.
        self.opening: Optional[asyncio.Future[None]] = None
        self._task: Optional[asyncio.Future[None]] = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = peer[:2]
        self._arm_idle()

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == LINGER:
            self._discarded += len(data)
            if self._discarded > self._limits.linger_bytes:
                self.transport.abort()
            return
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0
        if state in (HEAD, BODY):
            self._advance()
        elif self._reading:
            self._reading = False
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.half_closed = True
        if self._state in (BUSY, FLUSH):
            return True
        if self._state == BODY or (self._state == HEAD and self._buffer):
            self._refuse(Refusal(400, "the connection ended inside the request"))
        return False

    def connection_lost(self, _exc: Optional[Exception]) -> None:
        self.closed = True
        self._state = CLOSED
        self._buffer = b""
        self._body = None
        self._disarm()
        self.server.forget(self)

    def pause_writing(self) -> None:
        self._writable = False
        self._progress = self.transport.get_write_buffer_size()
        self._arm(self._limits.write_timeout, self._write_over)

    def resume_writing(self) -> None:
        self._writable = True
        if self._state == FLUSH:
            self._disarm()
            self._next()

    # Reading.

    def _advance(self) -> None:
        """Read and answer as many requests as have arrived."""
        self._advancing = True
        try:
            while self._at < len(self._buffer):
                if self._state == HEAD:
                    if not self._read_head():
                        break
                elif self._state == BODY:
                    if not self._read_body():
                        break
                else:
                    return
        except Refusal as refusal:
            self._refuse(refusal)
            return
        finally:
            self._advancing = False
        if self._at:
            self._buffer = self._buffer[self._at :]
            self._at = 0
        if self._state in (HEAD, BODY):
            self._more()

    def _more(self) -> None:
        """Everything read so far is used up."""
        if self.half_closed:
            # The rest of what a half-closed client had sent was used up by earlier requests.
            if self._buffer or self._state == BODY:
                self._refuse(Refusal(400, "the connection ended inside the request"))
            else:
                self.transport.close()
        elif not self._reading:
            self._reading = True
            self.transport.resume_reading()

    def _read_head(self) -> bool:
        """Read a head and what is there of its body; False when more bytes are needed."""
        buffer = self._buffer
        at = self._at
        if buffer.startswith(b"\r\n", at):
            # One empty line is forgiven: old clients send it behind a body.
            at += 2
        end = buffer.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(buffer)) - at > self._limits.max_head:
            raise Refusal(
                431,
                "the request's head has more than %d bytes; raise readBufferSize of the http "
                "trigger to accept it" % self._limits.max_head,
            )
        if end < 0:
            return self._await_head(buffer[at:])
        if self._timer is not None:
            self._disarm()
        self._begun = False
        head = self._parse(buffer[at:end])
        at = end + 4
        length = head.length
        if length is not None:
            if length > self._limits.max_body:
                raise too_large(length, self._limits.max_body)
            if len(buffer) - at >= length:
                self._at = at + length
                self._dispatch(head, buffer[at : self._at])
                return True
            self._body = SizedBody(length)
        else:
            self._body = ChunkedBody(self._limits.max_body, self._limits.max_head)
        self._head = head
        self._at = at
        self._state = BODY
        self._progress = self._loop.time()
        self._arm(self._limits.body_timeout, self._body_over)
        if head.expects_continue and at == len(buffer):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _await_head(self, begun: bytes) -> bool:
        if self.server.command(begun, self.transport):
            self._state = LINGER
            self.transport.close()
            return False
        if begun and begun != b"\r":
            check_partial(begun)
        if not self._begun:
            self._begun = True
            self._arm(self._limits.head_timeout, self._head_over)
        return False

    def _read_body(self) -> bool:
        """Feed the body; False when it needs more bytes."""
        body = self._body
        head = self._head
        assert body is not None
        assert head is not None
        self._at = body.feed(self._buffer, self._at)
        if not body.done:
            self._progress = self._loop.time()
            return False
        self._disarm()
        self._body = None
        self._dispatch(head, body.data)
        return True

    # Answering.

    def _dispatch(self, head: Head, body: Union[bytes, bytearray]) -> None:
        self._state = BUSY
        self._head = None
        request = Request(head, body, self, monotonic())
        self.server.in_flight += 1
        try:
            answer = self.server.app(request)
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            answer = self.server.failed(request, error)
        if answer is None or isinstance(answer, Reply):
            self._answer(request, answer)
        else:
            self._task = self._loop.create_task(self._wait(request, answer))

    async def _wait(self, request: Request, pending: Awaitable[Optional[Reply]]) -> None:
        reply = None
        try:
            reply = await pending
        except asyncio.CancelledError:
            # The loop is ending; without an answer the connection must not look alive.
            raise
        except Exception as error:  # noqa: BLE001 - as in _dispatch
            reply = self.server.failed(request, error)
        finally:
            self._task = None
            self._answer(request, reply)

    def _answer(self, request: Request, reply: Optional[Reply]) -> None:
        """Write the reply and go on; None ends the connection without one."""
        self.server.in_flight -= 1
        if self.closed:
            self.server.settled()
            return
        if reply is None:
            self.transport.abort()
            return
        head = request.head
        keep_alive = head.keep_alive and not reply.close and self._may_go_on()
        try:
            data = encode_head(reply, keep_alive, head.version)
        except (ValueError, TypeError, AttributeError) as error:
            reply = self.server.failed(request, error)
            data = encode_head(reply, keep_alive, head.version)
        self._keep_alive = keep_alive and not reply.close
        if head.method == "HEAD" or reply.status in (204, 304):
            self.transport.write(data)
        elif len(reply.body) < _JOINED:
            self.transport.write(data + reply.body)
        else:
            self.transport.write(data)
            self.transport.write(reply.body)
        if self._writable:
            self._next()
        else:
            self._state = FLUSH

    def _may_go_on(self) -> bool:
        """While draining a connection ends behind the last request that has arrived on it."""
        if not self.server.draining:
            return True
        return not self.server.expired and (self._at < len(self._buffer) or self._arrived())

    def _arrived(self) -> bool:
        """Whether bytes wait in the socket that were not read yet."""
        number = self.transport.get_extra_info("socket").fileno()
        return number >= 0 and any(fcntl.ioctl(number, termios.FIONREAD, bytes(4)))

    def _next(self) -> None:
        """An answer is out: go on with the next request, or end."""
        if not self._keep_alive:
            self._end()
            return
        self._state = HEAD
        if self._advancing:
            return
        if self._buffer:
            self._advance()
        else:
            self._more()
        if self._state == HEAD and self._timer is None:
            self._arm_idle()

    # Ending.

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what cannot be served, and end."""
        self.server.refused(refusal)
        reply = Reply.json(refusal.status, {"error": refusal.message}, close=True)
        data = encode_head(reply, False, "1.1")
        bare = self._head is not None and self._head.method == "HEAD"
        self.transport.write(data if bare else data + reply.body)
        self._body = None
        self._linger()

    def _end(self) -> None:
        """Close, and throw no answer away by it: unread bytes would turn the close into a reset."""
        if self._at < len(self._buffer) or self._arrived() or self.server.draining:
            self._linger()
        else:
            self._state = LINGER
            self.transport.close()

    def _linger(self) -> None:
        """Close for writing, and read on until the client has closed too, within limits."""
        self._state = LINGER
        self._buffer = b""
        self._at = 0
        if self.half_closed:
            self.transport.close()
            return
        self._arm(self._limits.linger_timeout, self._linger_over)
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
        self.transport.write_eof()

    def retire(self) -> None:
        """Close if the connection is idle and nothing has arrived on it."""
        idle = self._state == HEAD and not self._buffer and self.transport is not None
        if idle and not self._arrived():
            self._linger()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self.transport is not None:
            self.transport.abort()

    # Deadlines. One timer serves all, since a connection does one thing at a time.

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, callback)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm_idle(self) -> None:
        if self._limits.idle_timeout is not None:
            self._arm(self._limits.idle_timeout, self.retire)

    def _head_over(self) -> None:
        seconds = self._limits.head_timeout
        self._refuse(Refusal(408, "the request's head did not arrive within %g s" % seconds))

    def _body_over(self) -> None:
        seconds = self._limits.body_timeout
        left = self._progress + seconds - self._loop.time()
        if left > 0:
            self._arm(left, self._body_over)
        else:
            self._refuse(Refusal(408, "nothing more of the body came within %g s" % seconds))

    def _write_over(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < self._progress:
            self._progress = waiting
            self._arm(self._limits.write_timeout, self._write_over)
        else:
            self.transport.abort()

    def _linger_over(self) -> None:
        if self.transport.get_write_buffer_size():
            self._progress = self.transport.get_write_buffer_size()
            self._arm(self._limits.write_timeout, self._write_over)
        else:
            self.transport.abort()
