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

# The kinds of messages, with the keys of their meta.
# From the processor.
SETUP = 1  # see `launch.setup_message`
EVENT = 2  # see `triggers.base.event_meta`; of a batch, batch: the metas, sizes: of the bodies
RELOAD = 3
STOP = 4
DRAIN = 5
BEGIN = 6  # see `launch.begin_message`
FORK = 7  # with the new worker's ends of the socket pair, stdout and stderr
FORGET = 8  # segment: its number
CREDIT = 9  # n: bytes of the reply that were sent to the client
CANCEL = 10
REPLY_MEMORY = 11  # fd: 1 with the descriptor of the memory, 0 without
SLEEP = 12  # answered by ASLEEP, or by FAILED and the end of the process
WAKE = 13  # answered by READY, or by FAILED and the end of the process
# From a worker.
STARTED = 16  # see `process_setup.prepare_process`
READY = 17  # of a model of KServe, inputs and outputs: the tensors that it declares
FAILED = 18  # reason, message (the full text), type (of the exception)
RECORD = 19  # l: level, m: message, t: milliseconds since the epoch, w: variables
REPLY = 20  # s: status, h: headers, t: start and duration in seconds; see also BODY
RELOADED = 21  # answer: `ok` or the error
IMPORTED = 22
PIECE = 23
END = 24  # d: duration in seconds; x: an error cut the reply short
REQUEST_MEMORY = 25  # size
ASLEEP = 26
# From a template.
FORKABLE = 32
UNFORKABLE = 33  # reason
FORKED = 34  # pid, or 0 and the problem

# More keys in the meta of a REPLY are x (the handler raised), a (the parts of a batch, or of a
# split request: see `responses.SplitReply`), n (the size of a body in pieces, if it is known), and
# this one for the place of its body: the memory from REQUEST_MEMORY, or the PIECE messages that
# follow up to END. Without it the message has the body.
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


class Message(NamedTuple):
    """A received message; its body is bytes, or a view of the memory that has them."""

    kind: int
    meta: Meta
    body: Any


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
