"""The worker's end of the socket pair to the processor; `wire` describes the messages."""

import array
import mmap
import os
import socket
import threading
from collections import deque

# By name, since some handlers import a library that takes it out of its module.
from select import POLLIN, poll
from typing import Deque, Dict, Iterable, Optional, Union

from .. import wire

# Descriptors that come with one read at most.
_FDS = 8
_MSG_CMSG_CLOEXEC = 0x40000000


class Channel:
    """Blocking, and safe for the handler's threads to log through.

    `fds` are descriptors that came with the last messages.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: Deque[int] = deque()
        self._segments: Dict[int, mmap.mmap] = {}
        self._memory = wire.MetaDecoder()
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._buffer = bytearray(wire.CHUNK)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._arrival = poll()
        self._arrival.register(sock, POLLIN)
        self._postponed: Deque[wire.Message] = deque()

    @property
    def foreign(self) -> bool:
        """Whether this is a copy in a process that the handler forked, which must not write."""
        return os.getpid() != self._owner

    @property
    def pending(self) -> bool:
        """Whether something was received that `receive` has not given yet."""
        return self._end > self._start or bool(self._postponed)

    def arrived(self) -> bool:
        """Return True if `receive` would not block: a message or the end of the stream is there."""
        return self.pending or bool(self._arrival.poll(0))

    def postpone(self, messages: Iterable[wire.Message]) -> None:
        """Make `receive` return these messages again, before all others."""
        self._postponed.extend(messages)

    def send(
        self, kind: int, meta: Union[wire.Meta, wire.EncodedMeta], body: wire.Body = b""
    ) -> None:
        """Write one message whole."""
        head = wire.encode_head(kind, meta, len(body))
        with self._lock:
            if len(body) < wire.JOINED_WRITE:
                self.sock.sendall(head + body)
            else:
                self.sock.sendall(head)
                self.sock.sendall(body)

    def receive(self) -> Optional[wire.Message]:
        """The next message, or None when the processor is gone.

        A body in shared memory is a view of it, to be released before the reply is sent.
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
        if kind != wire.EVENT:
            return wire.Message(kind, wire.decode(meta), body, None)
        common, mark = self._memory.event(meta)
        return wire.Message(kind, common, body, mark)

    def forget(self, segment: int) -> None:
        """The processor uses the segment no more."""
        self._segments.pop(segment).close()

    def _fill(self, size: int) -> bool:
        """Have `size` bytes, at most a chunk, in the buffer; False at the end of the stream."""
        while self._end - self._start < size:
            if self._start:
                # What is left is short: the beginning of a message.
                left = bytes(self._view[self._start : self._end])
                self._buffer[: len(left)] = left
                self._start, self._end = 0, len(left)
            if not self._end:
                # Who sleeps in `recvmsg` itself is woken by the kernel each time the processor has
                # taken a reply, since there is room for more then.
                self._arrival.poll()
            space = socket.CMSG_SPACE(4 * _FDS)
            room = [self._view[self._end :]]
            count, ancillary, _, _ = self.sock.recvmsg_into(room, space, _MSG_CMSG_CLOEXEC)
            if not count:
                return False
            self._end += count
            for _level, _type, data in ancillary:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self.fds.extend(fds)
        return True

    def _take(self, size: int) -> Optional[bytes]:
        """The next `size` bytes."""
        have = min(size, self._end - self._start)
        part = bytes(self._view[self._start : self._start + have])
        if have == size or size <= wire.CHUNK:
            if have < size and not self._fill(size):
                return None
            part = bytes(self._view[self._start : self._start + size])
            self._start += size
            return part
        self._start = self._end = 0
        # Nothing of it may be here yet, when the head came alone.
        parts = [part]
        while have < size:
            # This fills one object of the right size, so that joining is the only copy.
            more = self.sock.recv(size - have, socket.MSG_WAITALL)
            if not more:
                return None
            parts.append(more)
            have += len(more)
        return b"".join(parts)

    def _map(self, segment: int) -> None:
        fd = self.fds.popleft()
        try:
            self._segments[segment] = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
