"""Connected sockets on an asyncio loop, without the layers of its transports."""

import array
import asyncio
import errno
import fcntl
import os
import socket
import sys
import termios
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Sequence, Union

Data = Union[bytes, bytearray, memoryview]

_READ_SIZE = 64 * 1024
# Bytes of a file that one iteration of the loop sends.
_SENDFILE_SIZE = 512 * 1024


class FileBody:
    """The bytes of an open file, which the kernel sends without this process reading them.

    Its length is the number of bytes still to send. `close` closes the file and calls `on_close`.
    """

    def __init__(self, fd: int, size: int, on_close: Callable[[], None]) -> None:
        self.fd = fd
        self._offset = 0
        self._size = size
        self._on_close = on_close

    def __len__(self) -> int:
        return self._size - self._offset

    def send(self, sock: int) -> int:
        """Send a slice to a socket; return the number of bytes sent. Raises OSError."""
        sent = os.sendfile(sock, self.fd, self._offset, min(len(self), _SENDFILE_SIZE))
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than its announced size")
        self._offset += sent
        return sent

    def close(self) -> None:
        """Close the file; further calls have no effect."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            self._on_close()

    def __del__(self) -> None:
        self.close()


class StreamOwner:
    """Callbacks of a stream, named as those of asyncio's protocols."""

    def data_received(self, data: bytes) -> None:
        """Bytes were received."""

    def buffer_updated(self, count: int) -> None:
        """So many bytes were read into the memory from `get_buffer`."""

    def eof_received(self) -> None:
        """The peer sends nothing more."""

    def flushed(self) -> None:
        """All data held back was written."""

    def connection_lost(self, error: Optional[Exception]) -> None:
        """The stream is closed. This is the last call."""


class Stream:
    """A connected socket: read when it is readable, written at once or when there is room.

    Methods may be called at any time; on a closed stream they do nothing. If `get_buffer` is set,
    the next bytes are read into the memory that it returns. `unsent` counts the bytes that were
    written but that the kernel has no room for yet.
    """

    __slots__ = (
        "_closing",
        "_eof",
        "_finishing",
        "_loop",
        "_owner",
        "_pending",
        "_reading",
        "_recv",
        "_send",
        "closed",
        "fd",
        "get_buffer",
        "sock",
        "unsent",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, owner: StreamOwner
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.get_buffer: Optional[Callable[[], memoryview]] = None
        self.unsent = 0
        self.closed = False
        self._loop = loop
        self._owner = owner
        self._recv = sock.recv
        self._send = sock.send
        self._pending: Deque[Union[memoryview, FileBody]] = deque()
        self._closing = False
        self._finishing = False
        self._eof = False
        self._reading = True
        loop.add_reader(self.fd, self._call, self._on_readable)

    @property
    def closing(self) -> bool:
        """True if nothing more can be written."""
        return self._closing or self.closed

    def _call(self, callback: Callable[[], None]) -> None:
        """Close this connection alone if its owner raises because of a bug."""
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - other connections must go on
            self._loop.call_exception_handler(
                {"message": "a connection failed", "exception": error, "socket": self.sock}
            )
            self._lose(error)

    # Reading.

    def _on_readable(self) -> None:
        if self.get_buffer is not None:
            self._read_into(self.get_buffer)
            return
        try:
            data = self._recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._end()
            return
        self._owner.data_received(data)
        if len(data) == _READ_SIZE and self.get_buffer is not None:
            # More is likely there, and the owner knows by now where it belongs.
            self._read_into(self.get_buffer)

    def _read_into(self, get_buffer: Callable[[], memoryview]) -> None:
        try:
            count = self.sock.recv_into(get_buffer())
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if count:
            self._owner.buffer_updated(count)
        else:
            self._end()

    def _end(self) -> None:
        # The socket stays readable from now on.
        self.pause()
        self._eof = True
        self._owner.eof_received()

    def pause(self) -> None:
        """Read nothing until `resume`."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.fd)

    def resume(self) -> None:
        """Read again."""
        if not (self._reading or self._eof or self.closing):
            self._reading = True
            self._loop.add_reader(self.fd, self._call, self._on_readable)

    # Writing.

    def write(self, data: Data) -> None:
        """Send the data; hold back what the kernel has no room for."""
        if self._pending or self.closing:
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
        """Send both without joining them first."""
        if self._pending or self.closing:
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
        """Send data with open descriptors; return False if nothing was sent for lack of room."""
        if self._pending or self.closing:
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

    def write_file(self, data: FileBody) -> None:
        """Send a file in slices, so that other connections are served in between."""
        self._hold([data])

    def _hold(self, pieces: List[Any]) -> None:
        if self.closing:
            return
        if not self._pending:
            self._loop.add_writer(self.fd, self._call, self._on_writable)
        for piece in pieces:
            self._pending.append(piece if isinstance(piece, FileBody) else memoryview(piece))
            self.unsent += len(piece)

    def _on_writable(self) -> None:
        held = self._pending
        try:
            while held:
                piece = held[0]
                if isinstance(piece, FileBody):
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
        self._loop.remove_writer(self.fd)
        if self._closing:
            self._lose(None)
            return
        if self._finishing:
            self.write_eof()
        self._owner.flushed()

    # Queues of the kernel.

    def unread_bytes(self) -> int:
        """Return the number of received bytes that were not read yet."""
        return self._queue_size(termios.FIONREAD)

    def undelivered_bytes(self) -> int:
        """Return the number of bytes that the peer has not received, including those held back."""
        return self.unsent + self._queue_size(termios.TIOCOUTQ)

    def _queue_size(self, request: int) -> int:
        if self.closed:
            return 0
        return int.from_bytes(fcntl.ioctl(self.fd, request, bytes(4)), sys.byteorder)

    # Ending.

    def write_eof(self) -> None:
        """Send the end of the stream after the data held back."""
        self._finishing = True
        if not self._pending and not self.closed:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lose(error)

    def close(self) -> None:
        """Close after the data held back is sent."""
        if self._pending:
            self.pause()
            self._closing = True
        else:
            self._lose(None)

    def abort(self) -> None:
        """Close immediately."""
        self._lose(None)

    def _lose(self, error: Optional[Exception]) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self.fd)
        self._loop.remove_writer(self.fd)
        for piece in self._pending:
            if isinstance(piece, FileBody):
                piece.close()
        self._pending.clear()
        self.unsent = 0
        self.get_buffer = None
        # Later, since the owner may be in the middle of something.
        self._loop.call_soon(self._notify_owner, error)
        self.sock.close()

    def _notify_owner(self, error: Optional[Exception]) -> None:
        owner, self._owner = self._owner, StreamOwner()
        owner.connection_lost(error)
