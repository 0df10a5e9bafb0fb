"""What the processor and a worker say to each other over their socket pair.

A message is one fixed header (kind, length of the meta, length of the body), the meta as JSON and
the body as raw bytes. Bodies are never encoded or looked into, so a large image costs one write and
one read.
"""

import json
import os
import socket
import struct
import threading
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

Body = Union[bytes, bytearray, memoryview]
Meta = Dict[str, Any]
# Meta as it goes over the socket: ASCII JSON.
Encoded = bytes

HEADER = struct.Struct("!BxxxIQ")

# From the processor.
SETUP = 1
EVENT = 2
RELOAD = 3
STOP = 4
DRAIN = 5
# From a worker.
STARTED = 16
READY = 17
FAILED = 18
RECORD = 19
REPLY = 20
RELOADED = 21
IMPORTED = 22

# Below this size one joined write is cheaper than two.
JOINED_WRITE = 64 * 1024
_SEND_BUFFER = 1024 * 1024

Message = NamedTuple("Message", [("kind", int), ("meta", Meta), ("body", bytes)])

_encode = json.JSONEncoder(separators=(",", ":"), default=repr).encode


def encode(meta: Meta) -> Encoded:
    """The meta as it goes over the socket."""
    return _encode(meta).encode("ascii")


def encode_head(kind: int, meta: Union[Meta, Encoded], size: int) -> bytes:
    """Header and meta of a message whose body has `size` bytes."""
    text = meta if isinstance(meta, bytes) else encode(meta)
    return HEADER.pack(kind, len(text), size) + text


class Reader:
    """Cuts the processor's incoming chunks into messages."""

    def __init__(self) -> None:
        self._chunks: List[bytes] = []
        self._held = 0
        self._wanted = HEADER.size

    def feed(self, data: bytes) -> Iterator[Message]:
        """Every message that is complete now."""
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return
            data = b"".join(self._chunks)
            self._chunks = []
        start, end = 0, len(data)
        while True:
            self._wanted = HEADER.size
            if end - start < self._wanted:
                break
            kind, meta_size, body_size = HEADER.unpack_from(data, start)
            self._wanted = HEADER.size + meta_size + body_size
            if end - start < self._wanted:
                break
            middle = start + HEADER.size + meta_size
            meta = json.loads(data[start + HEADER.size : middle].decode("ascii"))
            start += self._wanted
            yield Message(kind, meta, data[middle:start])
        if start < end:
            self._chunks = [data[start:] if start else data]
        self._held = end - start


class Channel:
    """The worker's end: blocking, and safe for the handler's threads to log through."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._owner = os.getpid()
        self._lock = threading.Lock()

    @property
    def foreign(self) -> bool:
        """Whether this is a copy in a process that the handler forked, which must not write."""
        return os.getpid() != self._owner

    def send(self, kind: int, meta: Meta, body: Body = b"") -> None:
        """Write one message whole."""
        head = encode_head(kind, meta, len(body))
        with self._lock:
            if len(body) < JOINED_WRITE:
                self.sock.sendall(head + body)
            else:
                self.sock.sendall(head)
                self.sock.sendall(body)

    def receive(self) -> Optional[Message]:
        """The next message, or None when the processor is gone."""
        header = self._read(HEADER.size)
        if header is None:
            return None
        kind, meta_size, body_size = HEADER.unpack(header)
        meta = self._read(meta_size)
        body = self._read(body_size)
        if meta is None or body is None:
            return None
        return Message(kind, json.loads(meta.decode("ascii")), body)

    def _read(self, size: int) -> Optional[bytes]:
        # MSG_WAITALL fills one bytes object of the right size: no second copy of a large body.
        if not size:
            return b""
        data = self.sock.recv(size, socket.MSG_WAITALL)
        if len(data) == size:
            return data
        return self._read_rest(data, size)

    def _read_rest(self, data: bytes, size: int) -> Optional[bytes]:
        parts = [data]
        missing = size - len(data)
        while missing and parts[-1]:
            parts.append(self.sock.recv(missing, socket.MSG_WAITALL))
            missing -= len(parts[-1])
        return None if missing else b"".join(parts)


def pair() -> Tuple[socket.socket, socket.socket]:
    """The two ends: the processor's and the worker's."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        # With room for a whole picture one write does, where the other side need not wake up first.
        # The kernel caps this as it sees fit.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ends
