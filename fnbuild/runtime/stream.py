"""A connected socket on the processor's loop: read when bytes are there, written at once or later.

What asyncio's transports do, less their turns through the loop; and the next bytes can be read
straight to where they stay.
"""

import array
import errno
import os
import socket
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Sequence, Union

from .loop import Loop, Watched

Data = Union[bytes, bytearray, memoryview]

_PIECE = 64 * 1024
# Bytes of a file that one turn of the loop sends.
_SLICE = 512 * 1024


class FileData:
    """The bytes of an open file, which the kernel sends without this process reading them.

    Its length is the number of bytes still to send. `close` closes the descriptor and calls
    `closed`.
    """

    def __init__(self, fd: int, size: int, closed: Callable[[], None]) -> None:
        self.fd = fd
        self._at = 0
        self._size = size
        self._closed = closed

    def __len__(self) -> int:
        return self._size - self._at

    def send(self, sock: int) -> int:
        """Send a slice to a socket; return the number of bytes sent. Raises OSError."""
        sent = os.sendfile(sock, self.fd, self._at, min(len(self), _SLICE))
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than its announced size")
        self._at += sent
        return sent

    def close(self) -> None:
        """Close the file; further calls have no effect."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            self._closed()

    def __del__(self) -> None:
        self.close()


class StreamOwner:
    """What a stream calls back."""

    def received(self, data: bytes) -> None:
        """Bytes have come."""

    def filled(self, count: int) -> None:
        """So many bytes were read to where `into` pointed."""

    def ended(self) -> None:
        """The peer writes nothing more."""

    def flushed(self) -> None:
        """What was held back is written, all of it."""

    def lost(self, error: Optional[Exception]) -> None:
        """It is closed; nothing is called any more."""


class Stream(Watched):
    """See the module. Its methods may be called at any time; on a closed stream they do nothing.

    `into`, when set, tells where the next bytes are to be read to. `unsent` counts the bytes that
    were written but that the kernel has no room for yet.
    """

    __slots__ = (
        "_closing", "_eof", "_finishing", "_held", "_loop", "_owner", "_poller", "_reading",
        "_recv", "_send", "closed", "fd", "into", "sock", "unsent",
    )  # fmt: skip

    def __init__(self, loop: Loop, sock: socket.socket, owner: StreamOwner) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.into: Optional[Callable[[], memoryview]] = None
        self.unsent = 0
        self.closed = False
        self._loop = loop
        self._poller = loop.poller
        self._owner = owner
        self._recv = sock.recv
        self._send = sock.send
        self._held: Deque[Union[memoryview, FileData]] = deque()
        self._closing = False
        self._finishing = False
        self._eof = False
        self._reading = True
        self._poller.watch(self.fd, self)

    @property
    def closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing or self.closed

    # Reading.

    def readable(self) -> None:
        if self.into is not None:
            self._read_into(self.into)
            return
        try:
            data = self._recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._end()
            return
        self._owner.received(data)
        if len(data) == _PIECE and self.into is not None:
            # More of it is there most likely, and the owner knows by now where it belongs.
            self._read_into(self.into)

    def _read_into(self, into: Callable[[], memoryview]) -> None:
        try:
            count = self.sock.recv_into(into())
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if count:
            self._owner.filled(count)
        else:
            self._end()

    def _end(self) -> None:
        # Readable for ever from now on.
        self.pause()
        self._eof = True
        self._owner.ended()

    def pause(self) -> None:
        """Read nothing, until `resume`."""
        if self._reading:
            self._reading = False
            self._poller.unwatch(self.fd)

    def resume(self) -> None:
        """Read again."""
        if not (self._reading or self._eof or self.closing):
            self._reading = True
            self._poller.watch(self.fd, self)

    # Writing.

    def write(self, data: Data) -> None:
        """Send, and hold back what there is no room for."""
        if self._held or self.closing:
            self._hold([data])
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        if sent < len(data):
            self._hold([memoryview(data)[sent:]])

    def write_two(self, head: bytes, body: Data) -> None:
        """Send both, without copying them together."""
        if self._held or self.closing:
            self._hold([head, body])
            return
        try:
            sent = self.sock.sendmsg([head, body])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        if sent < len(head):
            self._hold([memoryview(head)[sent:], body])
        elif sent < len(head) + len(body):
            self._hold([memoryview(body)[sent - len(head) :]])

    def write_with(self, data: bytes, fds: Sequence[int]) -> bool:
        """Send data with open descriptors; False, and nothing is sent, when there is no room."""
        if self._held or self.closing:
            return False
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        try:
            sent = self.sock.sendmsg([data], [rights])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lose(error)
            return False
        if sent < len(data):
            self._hold([memoryview(data)[sent:]])
        return True

    def write_file(self, data: FileData) -> None:
        """Send a file in slices, so that other connections get their turns in between."""
        self._hold([data])

    def _hold(self, pieces: List[Any]) -> None:
        if self.closing:
            return
        if not self._held:
            self._poller.watch(self.fd, self, writing=True)
        for piece in pieces:
            self._held.append(piece if isinstance(piece, FileData) else memoryview(piece))
            self.unsent += len(piece)

    def writable(self) -> None:
        held = self._held
        try:
            while held:
                piece = held[0]
                if isinstance(piece, FileData):
                    self.unsent -= piece.send(self.fd)
                    if piece:
                        return
                    piece.close()
                else:
                    sent = self._send(piece)
                    self.unsent -= sent
                    if sent < len(piece):
                        held[0] = piece[sent:]
                        return
                held.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        self._poller.unwatch(self.fd, writing=True)
        if self._closing:
            self._lose(None)
            return
        if self._finishing:
            self.write_eof()
        self._owner.flushed()

    # Ending.

    def write_eof(self) -> None:
        """Tell the peer, behind what is held back, that nothing more comes."""
        self._finishing = True
        if not self._held and not self.closed:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lose(error)

    def close(self) -> None:
        """Close behind what is held back."""
        if self._held:
            self.pause()
            self._closing = True
        else:
            self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def failed(self, error: Exception) -> None:
        """The owner raised: the processor's own mistake, which costs this connection alone."""
        self._loop.call_exception_handler(
            {"message": "a connection failed", "exception": error, "socket": self.sock}
        )
        self._lose(error)

    def _lose(self, error: Optional[Exception]) -> None:
        if self.closed:
            return
        self.closed = True
        self._poller.unwatch(self.fd)
        self._poller.unwatch(self.fd, writing=True)
        for piece in self._held:
            if isinstance(piece, FileData):
                piece.close()
        self._held.clear()
        self.unsent = 0
        self.into = None
        # Not from within whatever the owner is doing.
        self._loop.call_soon(self._tell, error)
        self.sock.close()

    def _tell(self, error: Optional[Exception]) -> None:
        owner, self._owner = self._owner, StreamOwner()
        owner.lost(error)
