"""The worker's end of the socket pair; `wire` describes the messages."""

import array
import mmap
import os
import socket
import threading
from collections import deque

# Imported by name, since some libraries of handlers remove `poll` from the module.
from select import POLLIN, poll
from typing import Deque, Dict, Iterable, Optional

from .. import wire

# The most descriptors that one read receives.
_FDS = 8
_MSG_CMSG_CLOEXEC = 0x40000000


class Channel:
    """A blocking channel to the processor. The handler's threads may send, too.

    `fds` are descriptors that were received with the last messages.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: Deque[int] = deque()
        self._segments: Dict[int, mmap.mmap] = {}
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._buffer = bytearray(wire.CHUNK)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._readable = poll()
        self._readable.register(sock, POLLIN)
        self._postponed: Deque[wire.Message] = deque()

    @property
    def in_forked_copy(self) -> bool:
        """True in a process that the handler forked, which must not send messages."""
        return os.getpid() != self._owner

    @property
    def pending(self) -> bool:
        """True if data was received that `receive` has not returned yet."""
        return self._end > self._start or bool(self._postponed)

    def is_readable(self) -> bool:
        """Return True if `receive` would not block."""
        return self.pending or bool(self._readable.poll(0))

    def postpone(self, messages: Iterable[wire.Message]) -> None:
        """Make `receive` return these messages again, before all others."""
        self._postponed.extend(messages)

    def send(self, kind: int, meta: wire.Meta, body: wire.Body = b"") -> None:
        """Write a complete message."""
        head = wire.encode_head(kind, meta, len(body))
        with self._lock:
            if len(body) < wire.JOINED_WRITE:
                self.sock.sendall(head + body)
            else:
                self.sock.sendall(head)
                self.sock.sendall(body)

    def receive(self) -> Optional[wire.Message]:
        """Return the next message, or None if the processor has ended.

        A body in shared memory is a view, to be released before the reply is sent.
        """
        if self._postponed:
            return self._postponed.popleft()
        if not self._fill(wire.HEADER.size):
            return None
        kind, segment, meta_size, size = wire.HEADER.unpack_from(self._buffer, self._start)
        self._start += wire.HEADER.size
        meta = self._take(meta_size)
        if meta is None:
            return None
        if kind >= wire.WITH_FDS:
            kind -= wire.WITH_FDS
            if segment:
                self._map(segment)
        body = memoryview(self._segments[segment])[:size] if segment else self._take(size)
        if body is None:
            return None
        return wire.Message(kind, wire.decode(meta), body)

    def unmap_segment(self, segment: int) -> None:
        """Unmap a segment that the processor has closed."""
        self._segments.pop(segment).close()

    def _fill(self, size: int) -> bool:
        """Read `size` bytes, at most a chunk, into the buffer; False at the end of the stream."""
        while self._end - self._start < size:
            if self._start:
                # The rest is short: the beginning of a message.
                rest = bytes(self._view[self._start : self._end])
                self._buffer[: len(rest)] = rest
                self._start, self._end = 0, len(rest)
            if not self._end:
                # The kernel wakes a process in `recvmsg` each time the processor has read a reply,
                # since the socket has room again. It does not wake one in `poll`.
                self._readable.poll()
            space = socket.CMSG_SPACE(4 * _FDS)
            buffers = [self._view[self._end :]]
            count, ancillary, _, _ = self.sock.recvmsg_into(buffers, space, _MSG_CMSG_CLOEXEC)
            if not count:
                return False
            self._end += count
            for _level, _type, data in ancillary:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self.fds.extend(fds)
        return True

    def _take(self, size: int) -> Optional[bytes]:
        """Return the next `size` bytes; None at the end of the stream."""
        count = min(size, self._end - self._start)
        part = bytes(self._view[self._start : self._start + count])
        if count == size or size <= wire.CHUNK:
            if count < size and not self._fill(size):
                return None
            part = bytes(self._view[self._start : self._start + size])
            self._start += size
            return part
        self._start = self._end = 0
        # The part may be empty, if only the header was received.
        parts = [part]
        while count < size:
            # This fills one object of the right size, so that the join is the only copy.
            data = self.sock.recv(size - count, socket.MSG_WAITALL)
            if not data:
                return None
            parts.append(data)
            count += len(data)
        return b"".join(parts)

    def _map(self, segment: int) -> None:
        fd = self.fds.popleft()
        try:
            self._segments[segment] = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
