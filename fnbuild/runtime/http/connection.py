"""One connection: requests are read, handed to the application one at a time, answered in order.

A connection holds at most one request and one read's worth of pipelined requests; then it stops
reading. No further request begins while a reply waits for a slow reader.
"""

import asyncio
import socket
from time import monotonic
from typing import Awaitable, Callable, Optional, Union

from ..streams import Stream, StreamOwner
from .connection_owner import ConnectionOwner
from .messages import (
    BodySource,
    BodyWriter,
    Deferred,
    HttpRequest,
    Reply,
    ReplyChannel,
    encode_reply_head,
    write_reply,
)
from .parser import HttpError, RequestHead
from .reader import HEAD, NOTHING, PART_OF_HEAD

# The states of a connection.
READ = "read"  # between requests, or one is arriving
BUSY = "busy"  # the application has a request
STREAM = "stream"  # the reply has begun and its body is being produced
FLUSH = "flush"  # the reply waits for a slow reader
LINGER = "linger"  # no more requests are answered; further input is discarded
CLOSED = "closed"

# A body that lacks fewer bytes is complete with the next read.
_MIN_DIRECT_READ = 32 * 1024
# Requests answered without waiting before other connections are served.
_MAX_CONSECUTIVE = 16
# Seconds for which an idle connection closed by a drain is still read.
_RETIRED_LINGER = 0.5


class HttpConnection(StreamOwner, ReplyChannel):
    """An accepted connection.

    `half_closed` is True once the client sends nothing more; most such clients are gone, some wait
    for their reply. `on_close` is called at the end.
    """

    def __init__(
        self,
        server: ConnectionOwner,
        sock: socket.socket,
        on_close: Callable[["HttpConnection"], None],
    ) -> None:
        self.server = server
        self.closed = False
        self.half_closed = False
        self._on_close = on_close
        # The loop itself holds only weak references to tasks.
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
        self._checkpoint = 0  # pieces read or bytes undelivered when the deadline was set
        self.stream = Stream(server.loop, sock, self)

    # Callbacks of the stream.

    def data_received(self, data: bytes) -> None:
        if self._state == LINGER:
            self._discarded += len(data)
            if self._discarded > self._limits.linger_bytes:
                self.stream.abort()
            return
        self._reader.feed(data)
        if self._state == READ:
            if self._commands and self._run_command():
                self._close()
            else:
                self._advance()
        elif self._reading:
            self._reading = False
            self.stream.pause()

    def buffer_updated(self, count: int) -> None:
        if self._reader.buffer_updated(count):
            self.stream.get_buffer = None
            self._advance()

    def eof_received(self) -> None:
        self.half_closed = True
        if self._state == READ and self._reader.progress != NOTHING:
            self._refuse(HttpError(400, "the connection ended inside the request"))
        elif self._state == STREAM and self._writer and self._writer.endless:
            # The client most likely does not want the rest.
            self.stream.abort()
        elif self._state == BUSY and self.server.half_closed_is_gone:
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

    def connection_lost(self, error: Optional[Exception]) -> None:  # noqa: ARG002 - the stream's signature
        self.closed = True
        self._state = CLOSED
        self._disarm()
        if self._writer is not None:
            self._writer.connection_lost()
        self._reader = self.server.new_reader()
        self._on_close(self)

    def _run_command(self) -> bool:
        """Run the received line if it is a command of the server instead of HTTP."""
        line = self._reader.partial_head()
        return self._reader.head is None and self.server.run_command(line, self.stream.sock)

    # Reading and answering.

    def _advance(self) -> None:
        """Answer the requests that are complete."""
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
        """Wait for more bytes: nothing is left, or a part of a request."""
        if self.half_closed:
            self.eof_received()
            return
        if not self._reading:
            self._reading = True
            self.stream.resume()
        progress = self._reader.progress
        if progress != self._awaited:
            self._awaited = progress
            if progress == PART_OF_HEAD:
                self._arm(self._limits.head_timeout, self._on_head_timeout)
            elif progress == HEAD:
                self._await_body()
            else:
                self._disarm()

    def _await_body(self) -> None:
        reader = self._reader
        self._checkpoint = reader.pieces
        self._arm(self._limits.body_timeout, self._on_body_timeout)
        if reader.head is not None and reader.head.expects_continue and not reader.pieces:
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if reader.missing >= _MIN_DIRECT_READ:
            # Into its final memory, which saves a copy and most of the reads.
            self.stream.get_buffer = reader.get_buffer

    def _dispatch(self, head: RequestHead, body: Union[bytes, bytearray]) -> None:
        self._state = BUSY
        if self._deadline is not None:
            self._disarm()
        request = HttpRequest(head, body, self, monotonic())
        self._request = request
        self.server.in_flight += 1
        try:
            answer = self.server.app(request)
        except Exception as error:  # noqa: BLE001 - the client gets a reply in any case
            answer = self.server.application_failed(request, error)
        if isinstance(answer, Reply) or answer is None:
            self.answer(request, answer)
        elif not isinstance(answer, Deferred):
            self._task = self._loop.create_task(self._wait(request, answer))

    async def _wait(self, request: HttpRequest, pending: Awaitable[Optional[Reply]]) -> None:
        reply = None
        try:
            reply = await pending
        except asyncio.CancelledError:
            raise  # The loop is ending: the connection ends too, without a reply.
        except Exception as error:  # noqa: BLE001 - the client gets a reply in any case
            reply = self.server.application_failed(request, error)
        finally:
            self.answer(request, reply)

    def answer(self, request: HttpRequest, reply: Optional[Reply]) -> None:
        if self._request is not request:
            return
        self._request = None
        self.server.in_flight -= 1
        if self.closed:
            self.server.request_ended()
            return
        stream = self.stream
        if reply is None:
            stream.abort()
            return
        head = request.head
        keep_alive = head.keep_alive and not reply.close and self._may_keep_alive()
        try:
            data = encode_reply_head(reply, keep_alive, head.version)
        except (ValueError, TypeError, AttributeError) as error:
            reply = self.server.application_failed(request, error)
            data = encode_reply_head(reply, keep_alive, head.version)
        self._keep_alive = keep_alive and not reply.close
        if head.method == "HEAD" or reply.status in (204, 304):
            stream.write(data)
        else:
            write_reply(stream, data, reply.body)
        self._answered()

    def _answered(self) -> None:
        """Continue once the written reply is sent."""
        if not self.stream.unsent:
            self._next()
        else:
            self._state = FLUSH
            self.await_room()

    def await_room(self) -> None:
        self._checkpoint = self.stream.undelivered_bytes()
        self._arm(self._limits.write_timeout, self._on_write_timeout)

    def begin(
        self, request: HttpRequest, reply: Reply, source: BodySource, size: Optional[int]
    ) -> BodyWriter:
        writer = BodyWriter(self, request, reply, source, size)
        keep_alive = writer.keeps_alive and not reply.close and self._may_keep_alive()
        data = encode_reply_head(reply, keep_alive, request.head.version, writer.framing)
        self._keep_alive = keep_alive
        self._writer = writer
        if self.closed:
            writer.connection_lost()
            return writer
        self._state = STREAM
        self.stream.write(data)
        if self.half_closed:
            self.eof_received()
        return writer

    def end(self, request: HttpRequest, complete: bool) -> None:
        if self._request is not request:
            return
        self._writer = None
        self._request = None
        self.server.in_flight -= 1
        if self.closed or self.stream.closed:
            self.server.request_ended()
        elif complete:
            self._answered()
        else:
            self._close()

    def _may_keep_alive(self) -> bool:
        """Return True if the connection may serve another request."""
        if not self.server.keep_alive_disabled:
            return True
        return not self.server.expired and self._has_unread_bytes()

    def _has_unread_bytes(self) -> bool:
        return self._reader.unread > 0 or self.stream.unread_bytes() > 0

    def _next(self) -> None:
        """Continue with the next request after a reply, or end."""
        if not self._keep_alive:
            self._close_after_reply()
            return
        if self.stream.closed:
            return
        self._state = READ
        if not (self._advancing or self._idle()):
            self._advance()

    def _idle(self) -> bool:
        """Return True if there is nothing to do until more bytes arrive."""
        empty = self._awaited == NOTHING and not self._reader.unread
        return empty and self._reading and not self.half_closed

    # Ending.

    def _refuse(self, refusal: HttpError) -> None:
        """Answer with an error, and end."""
        self.server.request_refused(refusal)
        reply = Reply.json(refusal.status, {"error": refusal.message}, close=True)
        head = self._reader.head
        bare = head is not None and head.method == "HEAD"
        write_reply(
            self.stream, encode_reply_head(reply, False, "1.1"), b"" if bare else reply.body
        )
        self._linger()

    def _close_after_reply(self) -> None:
        """End after a reply that announced the end."""
        # Closing with unread bytes sends a reset, which can cost the client its reply. With
        # keep-alive disabled by the server, more requests may be on their way.
        if self._has_unread_bytes() or self.server.keep_alive_disabled:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Close for writing; read on, within limits, until the client closes too."""
        if self.half_closed:
            self._close()
            return
        self._state = LINGER
        self.stream.get_buffer = None
        self._reader = self.server.new_reader()
        self._arm(self._limits.linger_timeout, self._on_linger_timeout)
        if not self._reading:
            self._reading = True
            self.stream.resume()
        self.stream.write_eof()

    def _close(self) -> None:
        """Close once everything is written."""
        self._state = LINGER
        self._arm(self._limits.linger_timeout, self._on_linger_timeout)
        self.stream.close()

    def retire(self) -> None:
        """Close if the connection is idle and nothing has arrived on it."""
        idle = self._state == READ and self._reader.progress == NOTHING
        if idle and not self.stream.unread_bytes():
            self._linger()
            # A request that is on its way at this moment gets no reply.
            self._arm(min(_RETIRED_LINGER, self._limits.linger_timeout), self._on_linger_timeout)

    def abort(self) -> None:
        """Close immediately."""
        self.stream.abort()

    # Deadlines. One timer is enough, since a connection does one thing at a time.

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, callback)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._awaited = -1

    def _on_head_timeout(self) -> None:
        seconds = self._limits.head_timeout
        self._refuse(HttpError(408, "the request's head did not arrive within %g s" % seconds))

    def _on_body_timeout(self) -> None:
        seconds = self._limits.body_timeout
        if self._checkpoint != self._reader.pieces:
            self._checkpoint = self._reader.pieces
            self._arm(seconds, self._on_body_timeout)
        else:
            self._refuse(HttpError(408, "no more of the body arrived within %g s" % seconds))

    def _on_write_timeout(self) -> None:
        if self.stream.undelivered_bytes() < self._checkpoint:
            self.await_room()
        else:
            self.stream.abort()

    def _on_linger_timeout(self) -> None:
        if self.stream.undelivered_bytes():
            # The reply itself is still on its way to a slow reader.
            self.await_room()
        else:
            self.stream.abort()
