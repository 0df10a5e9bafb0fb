"""The worker's side of a reply that does not travel in one message.

Pieces are sent at the pace of the client: the processor gives credit for the bytes that were sent,
and a worker that has used up its window waits for credit. So neither process buffers more of a
reply than the window.
"""

import os
from typing import List, Optional

from . import wire
from .channel import Channel
from .coroutines import Coroutines

# The window: bytes sent without credit. The piece: bytes in one message.
_WINDOW = 1024 * 1024
_SLICE = 256 * 1024
# Bytes copied to shared memory by one call.
_COPIED = 64 * 1024 * 1024


class ClientGoneError(Exception):
    """The client no longer reads the reply."""


class ReplyStream:
    """The pieces of one reply. Messages about anything else are left for the worker."""

    def __init__(self, channel: Channel, coroutines: Coroutines) -> None:
        self.sent = 0
        self._channel = channel
        self._coroutines = coroutines
        self._outstanding = 0
        self._cancelled = False
        self._others: List[wire.Message] = []
        self._room: Optional[wire.Message] = None

    def write(self, data: bytes) -> None:
        """Send the bytes; wait for a slow client. Raises ClientGoneError."""
        view = memoryview(data)
        for start in range(0, len(view), _SLICE):
            piece = view[start : start + _SLICE]
            while self._outstanding >= _WINDOW and not self._cancelled:
                self._wait()
            if self.cancelled():
                raise ClientGoneError()
            self._channel.send(wire.PIECE, b"", piece)
            self._outstanding += len(piece)
            self.sent += len(piece)

    def cancelled(self) -> bool:
        """Return True if the processor has reported that the client no longer reads the reply."""
        while not self._cancelled and self._channel.arrived():
            self._take()
        return self._cancelled

    def room(self, size: int) -> int:
        """Ask the processor for shared memory; return its descriptor, or -1 if there is none."""
        self._channel.send(wire.WANT, {"size": size})
        while self._room is None and not self._cancelled:
            self._take()
        # A worker that can open nothing more gets no descriptor either.
        if self._room is None or not self._channel.fds:
            return -1
        return self._channel.fds.popleft()

    def close(self) -> None:
        """Return the messages for the worker to the channel."""
        self._channel.postpone(self._others)
        self._others = []

    def _wait(self) -> None:
        # The handler's background tasks go on meanwhile.
        if not self._channel.pending:
            self._coroutines.wait(self._channel.sock)
        self._take()

    def _take(self) -> None:
        message = self._channel.receive()
        if message is None or message.kind == wire.CANCEL:
            self._cancelled = True
        elif message.kind == wire.CREDIT:
            self._outstanding -= message.meta["n"]
        elif message.kind == wire.ROOM:
            self._room = message
        else:
            self._others.append(message)


def copy_to(fd: int, body: wire.Body) -> bool:
    """Write the body to shared memory and close the descriptor; return False without memory."""
    view = memoryview(body)
    at = 0
    try:
        while at < len(view):
            at += os.pwrite(fd, view[at : at + _COPIED], at)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
