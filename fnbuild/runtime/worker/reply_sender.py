"""Send replies that do not fit into one message: large bodies and the items of generators.

Pieces are sent at the pace of the client: the processor gives credit for the bytes that were sent,
and a worker that has used up its window waits for credit. So neither process buffers more of a
reply than the window.
"""

import os
import time
from contextlib import suppress
from typing import Callable, List, NamedTuple, Optional

from .. import wire
from .channel import Channel
from .coroutines import CoroutineRunner, GeneratorItems
from .responses import ReplyConverter, ReplyError, WorkerReply

# The window: bytes sent without credit. The piece: bytes in one message.
_WINDOW = 1024 * 1024
_PIECE_SIZE = 256 * 1024
# Bytes copied to shared memory by one call.
_COPY_SIZE = 64 * 1024 * 1024
# The lowest status of an error.
_ERROR_STATUS = 400


class ClientDisconnectedError(Exception):
    """The client no longer reads the reply."""


class ReplyStream:
    """The pieces of one reply. Messages about anything else are left for the worker."""

    def __init__(self, channel: Channel, coroutines: CoroutineRunner) -> None:
        self.sent = 0
        self._channel = channel
        self._coroutines = coroutines
        self._outstanding = 0
        self._cancelled = False
        self._postponed: List[wire.Message] = []
        self._memory_message: Optional[wire.Message] = None

    def write(self, data: bytes) -> None:
        """Send the bytes; wait for a slow client. Raises ClientDisconnectedError."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_SIZE):
            piece = view[start : start + _PIECE_SIZE]
            while self._outstanding >= _WINDOW and not self._cancelled:
                self._wait()
            if self.cancelled():
                raise ClientDisconnectedError()
            self._channel.send(wire.PIECE, {}, piece)
            self._outstanding += len(piece)
            self.sent += len(piece)

    def cancelled(self) -> bool:
        """Return True if the processor has reported that the client no longer reads the reply."""
        while not self._cancelled and self._channel.is_readable():
            self._receive()
        return self._cancelled

    def request_memory(self, size: int) -> int:
        """Ask the processor for shared memory; return its descriptor, or -1 if there is none."""
        self._channel.send(wire.REQUEST_MEMORY, {"size": size})
        while self._memory_message is None and not self._cancelled:
            self._receive()
        # A worker out of descriptors receives none.
        if self._memory_message is None or not self._channel.fds:
            return -1
        return self._channel.fds.popleft()

    def close(self) -> None:
        """Return the messages for the worker to the channel."""
        self._channel.postpone(self._postponed)
        self._postponed = []

    def _wait(self) -> None:
        # Meanwhile the handler's background tasks run.
        if not self._channel.pending:
            self._coroutines.wait(self._channel.sock)
        self._receive()

    def _receive(self) -> None:
        message = self._channel.receive()
        if message is None or message.kind == wire.CANCEL:
            self._cancelled = True
        elif message.kind == wire.CREDIT:
            self._outstanding -= message.meta["n"]
        elif message.kind == wire.REPLY_MEMORY:
            self._memory_message = message
        else:
            self._postponed.append(message)


def write_shared(fd: int, body: wire.Body) -> bool:
    """Write the body to shared memory and close the descriptor; return False without memory."""
    view = memoryview(body)
    at = 0
    try:
        while at < len(view):
            at += os.pwrite(fd, view[at : at + _COPY_SIZE], at)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class ErrorCallbacks(NamedTuple):
    """Callbacks that log the errors that end a reply: invalid content and exceptions."""

    invalid: Callable[[str], object]
    raised: Callable[[BaseException], object]


class ReplySender:
    """The sender of replies in parts. `limit` is the largest body in bytes; 0 means no limit."""

    def __init__(
        self,
        channel: Channel,
        coroutines: CoroutineRunner,
        converter: ReplyConverter,
        limit: int,
        on_error: ErrorCallbacks,
    ) -> None:
        self._channel = channel
        self._coroutines = coroutines
        self._converter = converter
        self._limit = limit
        self._on_error = on_error
        self._pushed: Optional[ReplyStream] = None

    def check_size(self, size: int) -> None:
        """Raise ReplyError if a body of this size is above the limit."""
        if 0 < self._limit < size:
            raise ReplyError(
                "it has %d bytes, and the limit is %d bytes; raise maxReplyBodySize of the http "
                "trigger to send it" % (size, self._limit)
            )

    def send_large(self, reply: WorkerReply, started: float, duration: float) -> None:
        """Send a large body in shared memory, or in pieces if there is none available."""
        size = len(reply.body)
        meta = reply.meta(started, duration)
        stream = ReplyStream(self._channel, self._coroutines)
        fd = stream.request_memory(size)
        if fd >= 0 and write_shared(fd, reply.body):
            self._channel.send(wire.REPLY, dict(meta, **{wire.BODY: wire.SHARED}))
            stream.close()
            return
        self._channel.send(wire.REPLY, dict(meta, **{wire.BODY: wire.PIECES, "n": size}))
        with suppress(ClientDisconnectedError):
            stream.write(reply.body)
        stream.close()
        self._channel.send(wire.END, {"d": duration})

    def push(self, reply: WorkerReply) -> None:
        """Send a part of the reply to the current event, of which more follows."""
        if self._pushed is None:
            meta = reply.meta(time.monotonic(), 0.0)
            self._channel.send(wire.REPLY, dict(meta, **{wire.BODY: wire.PIECES}))
            self._pushed = ReplyStream(self._channel, self._coroutines)
        with suppress(ClientDisconnectedError):
            self._pushed.write(reply.body)

    def send_parts(self, reply: WorkerReply, started: float) -> Optional[wire.Meta]:
        """Send a reply that is not one message; return the meta of END as `stream` does, or None.

        After pushed parts, the reply is the last part, or the error that cuts them short.
        """
        if self._pushed is None:
            return None if reply.rest is None else self.stream(reply, started)
        stream, self._pushed = self._pushed, None
        if reply.status < _ERROR_STATUS:
            with suppress(ClientDisconnectedError):
                stream.write(reply.body)
        stream.close()
        return {"x": 1} if reply.status >= _ERROR_STATUS else {}

    def stream(self, reply: WorkerReply, started: float) -> wire.Meta:
        """Send the items of a generator as they are yielded; return the meta of END, but the time.

        The meta has `x` if an error, which is logged, cut the reply short.
        """
        items = reply.rest
        assert items is not None
        reply.rest = None
        meta = reply.meta(started, time.monotonic() - started)
        self._channel.send(wire.REPLY, dict(meta, **{wire.BODY: wire.PIECES}))
        stream = ReplyStream(self._channel, self._coroutines)
        items.watch = self._channel.sock, stream.cancelled
        end: wire.Meta = {}
        try:
            self._send_items(stream, reply.body, items)
        except ClientDisconnectedError:
            pass
        except ReplyError as problem:
            self._on_error.invalid(str(problem))
            end["x"] = 1
        # SystemExit and KeyboardInterrupt, too: an error of the handler must not end the worker.
        except BaseException as error:  # noqa: BLE001
            # An async generator that was waiting is cancelled when the client has left.
            if not (stream.cancelled() and type(error).__name__ == "CancelledError"):
                self._on_error.raised(error)
                end["x"] = 1
        items.watch = None
        try:
            items.close()
        except BaseException as error:  # noqa: BLE001 - raised by a generator as it is closed
            self._on_error.raised(error)
        stream.close()
        return end

    def _send_items(self, stream: ReplyStream, first: bytes, items: GeneratorItems) -> None:
        stream.write(first)
        for item in items:
            if self._channel.in_forked_copy:
                # This is a process forked by the handler; its parent sends the reply.
                os._exit(0)
            data = self._converter.convert_item(item)
            self.check_size(stream.sent + len(data))
            stream.write(data)
