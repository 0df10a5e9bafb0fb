"""The messages between the processor and a worker over their socket pair.

A message is a fixed header (kind, segment, length of the meta, length of the body), the meta as
JSON and the body as raw bytes, which are never encoded or inspected. If the header has the number
of a shared memory segment, the body is there. A message may come with open descriptors: that of a
segment that is new to the worker, or those that the message is about.
"""

import json
import socket
import struct
from typing import Any, Dict, List, NamedTuple, Tuple, Union

Body = Union[bytes, bytearray, memoryview]
Meta = Dict[str, Any]

HEADER = struct.Struct("!BxHIQ")
# Added to the kind of a message with descriptors.
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
CREDIT = 9
CANCEL = 10
REPLY_MEMORY = 11
# From a worker.
STARTED = 16
READY = 17
FAILED = 18
RECORD = 19
REPLY = 20
RELOADED = 21
IMPORTED = 22
PIECE = 23
END = 24
REQUEST_MEMORY = 25
# From a template.
FORKABLE = 32
UNFORKABLE = 33
FORKED = 34

# The key in the meta of a REPLY for the place of its body: the memory from REQUEST_MEMORY, or the
# PIECE messages that follow up to END. Without the key the body is in the message.
BODY = "b"
SHARED = "shared"
PIECES = "pieces"

# Replies of this size and above are not sent in one message.
LARGE_BODY = 4 * 1024 * 1024

# Below this size, one joined write is cheaper than two.
JOINED_WRITE = 64 * 1024
# The most that one read takes; a longer message is read into memory of its own size.
CHUNK = 64 * 1024
_SEND_BUFFER = 1024 * 1024

Message = NamedTuple("Message", [("kind", int), ("meta", Meta), ("body", Any)])


_encoder = json.JSONEncoder(separators=(",", ":"), default=repr)


def encode_head(kind: int, meta: Meta, size: int, segment: int = 0) -> bytes:
    """Return header and meta of a message whose body has `size` bytes."""
    text = _encoder.encode(meta).encode("ascii")
    return HEADER.pack(kind, segment, len(text), size) + text


class MessageReader:
    """A parser that splits the bytes from a worker into messages.

    While `long` is True, the next bytes belong to one long message: read them into `get_buffer()`
    and call `buffer_updated` instead of `feed`.
    """

    def __init__(self) -> None:
        self.long = False
        self._whole = bytearray()
        self._filled = 0
        self._partial = b""

    def get_buffer(self) -> memoryview:
        """Return the memory for the next bytes of a long message."""
        return memoryview(self._whole)[self._filled :]

    def feed(self, data: bytes) -> List[Message]:
        """Return the messages that this chunk completes."""
        messages: List[Message] = []
        if self._partial:
            data = self._partial + data
            self._partial = b""
        start, end = 0, len(data)
        while end - start >= HEADER.size:
            kind, _, meta_size, body_size = HEADER.unpack_from(data, start)
            middle = start + HEADER.size + meta_size
            stop = middle + body_size
            if end < stop:
                if stop - start > CHUNK:
                    self._begin_long(data, start, stop - start)
                    return messages
                break
            meta = data[start + HEADER.size : middle]
            messages.append(Message(kind, decode(meta), data[middle:stop]))
            start = stop
        self._partial = data[start:]
        return messages

    def buffer_updated(self, count: int) -> List[Message]:
        """Report bytes read into `get_buffer()`; return the message if it is complete."""
        self._filled += count
        if self._filled < len(self._whole):
            return []
        whole, self._whole = memoryview(self._whole), bytearray()
        self.long = False
        kind, _, meta_size, _ = HEADER.unpack_from(whole)
        middle = HEADER.size + meta_size
        return [Message(kind, decode(bytes(whole[HEADER.size : middle])), whole[middle:])]

    def _begin_long(self, data: bytes, start: int, size: int) -> None:
        self.long = True
        self._filled = len(data) - start
        self._whole = bytearray(size)
        self._whole[: self._filled] = memoryview(data)[start:]


def decode(meta: bytes) -> Meta:
    """Return the meta of a message."""
    decoded: Meta = json.loads(meta.decode("ascii"))
    return decoded


def socket_pair() -> Tuple[socket.socket, socket.socket]:
    """Return connected sockets for the processor and a worker."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        # A buffer for a whole image takes one write, without waking the other side in between.
        # The kernel may cap it.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ends
