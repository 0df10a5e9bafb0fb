"""What the processor and a worker say to each other over their socket pair.

A message is one fixed header (kind, segment, length of the meta, length of the body), the meta as
JSON and the body as raw bytes. Bodies are never encoded or looked into. With a segment's number the
body lies in that piece of shared memory. A message may come with open descriptors: that of a
segment which the worker has not seen yet, or those that the message is about. Behind the meta of a
reply stand its times, in binary, since without them most replies have the same meta.
"""

import array
import json
import mmap
import os
import socket
import struct
import threading
from collections import deque
from json.encoder import encode_basestring_ascii
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple, Union

Body = Union[bytes, bytearray, memoryview]
Meta = Dict[str, Any]
# Meta as it goes over the socket: ASCII JSON.
Encoded = bytes

HEADER = struct.Struct("!BxHIQ")
# Added to the kind of a message that comes with descriptors.
WITH_FDS = 128

# From the processor.
SETUP = 1
EVENT = 2
RELOAD = 3
STOP = 4
DRAIN = 5
BEGIN = 6
FORK = 7
FORGET = 8
# From a worker.
STARTED = 16
READY = 17
FAILED = 18
RECORD = 19
REPLY = 20
RELOADED = 21
IMPORTED = 22
# From a template.
FORKABLE = 32
UNFORKABLE = 33
FORKED = 34

# Below this size one joined write is cheaper than two.
JOINED_WRITE = 64 * 1024
# What one read takes at most; a message that is longer is read into memory of its own size.
_CHUNK = 64 * 1024
_FDS = 8
_MSG_CMSG_CLOEXEC = 0x40000000
_SEND_BUFFER = 1024 * 1024

# `times` are those of a reply: when the handler began (`time.monotonic`) and how long it took.
Message = NamedTuple(
    "Message", [("kind", int), ("meta", Meta), ("body", Any), ("times", Tuple[float, float])]
)
_TIMES = struct.Struct("!dd")
_NO_TIMES = (0.0, 0.0)
# How many metas of replies of which length are remembered.
_KEPT = 256
_KEPT_LENGTH = 1024


def _make_encode() -> Callable[[Any], str]:
    """JSON as json.dumps writes it, without making an encoder for every message."""
    usual = json.JSONEncoder(separators=(",", ":"), default=repr)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return usual.encode
    quick = make({}, repr, encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(quick(value, 0))


_encode = _make_encode()


def encode(meta: Meta) -> Encoded:
    """The meta as it goes over the socket."""
    return _encode(meta).encode("ascii")


def encode_reply(meta: Meta, began: float, duration: float) -> Encoded:
    """The meta of a reply with its times, in seconds."""
    return encode(meta) + _TIMES.pack(began, duration)


def encode_head(kind: int, meta: Union[Meta, Encoded], size: int, segment: int = 0) -> bytes:
    """Header and meta of a message whose body has `size` bytes."""
    text = meta if isinstance(meta, bytes) else encode(meta)
    return HEADER.pack(kind, segment, len(text), size) + text


class Reader:
    """Cuts the processor's incoming chunks into messages.

    While a `long` message arrives its next bytes belong to `room`, and are told of by `filled`.
    Equal metas of replies are one object, in which a reader may keep what it derives from them.
    """

    def __init__(self) -> None:
        self._known: Dict[bytes, Meta] = {}
        self.long = False
        self._whole = bytearray()
        self._at = 0
        self._held = b""

    def room(self) -> memoryview:
        """Where the next bytes of a long message may be written."""
        return memoryview(self._whole)[self._at :]

    def feed(self, data: bytes) -> List[Message]:
        """Every message that is complete with this chunk."""
        found: List[Message] = []
        if self._held:
            data = self._held + data
            self._held = b""
        start, end = 0, len(data)
        while end - start >= HEADER.size:
            kind, _, meta_size, body_size = HEADER.unpack_from(data, start)
            middle = start + HEADER.size + meta_size
            stop = middle + body_size
            if end < stop:
                if stop - start > _CHUNK:
                    self._begin(data, start, stop - start)
                    return found
                break
            meta = data[start + HEADER.size : middle]
            found.append(self._message(kind, meta, data[middle:stop]))
            start = stop
        self._held = data[start:]
        return found

    def filled(self, count: int) -> List[Message]:
        """So many bytes were written to `room`: the message, when that was the rest of it."""
        self._at += count
        if self._at < len(self._whole):
            return []
        whole, self._whole = memoryview(self._whole), bytearray()
        self.long = False
        kind, _, meta_size, _ = HEADER.unpack_from(whole)
        middle = HEADER.size + meta_size
        return [self._message(kind, bytes(whole[HEADER.size : middle]), whole[middle:])]

    def _message(self, kind: int, raw: bytes, body: Any) -> Message:
        if kind != REPLY:
            return Message(kind, _decode(raw), body, _NO_TIMES)
        text = raw[: -_TIMES.size]
        meta = self._known.get(text)
        if meta is None:
            meta = _decode(text)
            if len(text) <= _KEPT_LENGTH:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[text] = meta
        return Message(kind, meta, body, _TIMES.unpack_from(raw, len(text)))

    def _begin(self, data: bytes, start: int, size: int) -> None:
        self.long = True
        self._at = len(data) - start
        self._whole = bytearray(size)
        self._whole[: self._at] = memoryview(data)[start:]


def _decode(meta: bytes) -> Meta:
    return json.loads(meta.decode("ascii")) if meta else {}


class Channel:
    """The worker's end: blocking, and safe for the handler's threads to log through.

    `fds` are descriptors that came with the last messages.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: Deque[int] = deque()
        self._segments: Dict[int, mmap.mmap] = {}
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._buffer = bytearray(_CHUNK)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    @property
    def foreign(self) -> bool:
        """Whether this is a copy in a process that the handler forked, which must not write."""
        return os.getpid() != self._owner

    @property
    def pending(self) -> bool:
        """Whether something was received that `receive` has not given yet."""
        return self._end > self._start

    def send(self, kind: int, meta: Union[Meta, Encoded], body: Body = b"") -> None:
        """Write one message whole."""
        head = encode_head(kind, meta, len(body))
        with self._lock:
            if len(body) < JOINED_WRITE:
                self.sock.sendall(head + body)
            else:
                self.sock.sendall(head)
                self.sock.sendall(body)

    def receive(self) -> Optional[Message]:
        """The next message, or None when the processor is gone.

        A body in shared memory is a view of it, to be released before the reply is sent.
        """
        if not self._fill(HEADER.size):
            return None
        kind, segment, meta_size, size = HEADER.unpack_from(self._buffer, self._start)
        self._start += HEADER.size
        meta = self._take(meta_size)
        if meta is None:
            return None
        if kind >= WITH_FDS:
            kind -= WITH_FDS
            if segment:
                self._map(segment)
        body = memoryview(self._segments[segment])[:size] if segment else self._take(size)
        return None if body is None else Message(kind, _decode(meta), body, _NO_TIMES)

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
        if have == size or size <= _CHUNK:
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


def pair() -> Tuple[socket.socket, socket.socket]:
    """The two ends: the processor's and the worker's."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        # With room for a whole picture one write does, where the other side need not wake up first.
        # The kernel caps this as it sees fit.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ends
