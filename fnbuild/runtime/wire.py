"""The messages between the processor and a worker over their socket pair.

A message is a fixed header (kind, segment, length of the meta, length of the body), the meta as
JSON and the body as raw bytes, which are never encoded or inspected. If the header has the number
of a shared memory segment, the body is there. A message may come with open descriptors: that of a
segment that is new to the worker, or those that the message is about.

The meta of an event or reply is followed by its mark in binary. The mark holds the values that
differ each time, so that most metas equal an earlier one and are decoded from a cache.
"""

import json
import socket
import struct
from json.encoder import encode_basestring_ascii
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from .cache import cache_value

Body = Union[bytes, bytearray, memoryview]
Meta = Dict[str, Any]
# Meta on the wire: ASCII JSON.
EncodedMeta = bytes

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

# The `mark` of an event is its id and its time in seconds since the epoch; that of a reply is the
# start (`time.monotonic`) and the duration of the handler in seconds; other messages have none.
Message = NamedTuple("Message", [("kind", int), ("meta", Meta), ("body", Any), ("mark", Any)])
_EVENT_MARK = struct.Struct("!36sQ")
_REPLY_MARK = struct.Struct("!dd")


def _make_encode() -> Callable[[Any], str]:
    """Return a function like json.dumps that does not create an encoder for each message."""
    encoder = json.JSONEncoder(separators=(",", ":"), default=repr)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    encode_in_c = make({}, repr, encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(encode_in_c(value, 0))


_encode = _make_encode()


def encode(meta: Any) -> EncodedMeta:
    """Return the meta, or a part of it, as it is sent."""
    return _encode(meta).encode("ascii")


def encode_event(meta: EncodedMeta, identity: str, moment: float) -> EncodedMeta:
    """Return the meta of an event with its mark: a UUID and the time in seconds since the epoch."""
    return meta + _EVENT_MARK.pack(identity.encode("ascii"), int(moment))


def encode_reply(meta: EncodedMeta, started: float, duration: float) -> EncodedMeta:
    """Return the meta of a reply with its mark: the start and duration in seconds."""
    return meta + _REPLY_MARK.pack(started, duration)


def encode_head(kind: int, meta: Union[Meta, EncodedMeta], size: int, segment: int = 0) -> bytes:
    """Return header and meta of a message whose body has `size` bytes."""
    text = meta if isinstance(meta, bytes) else encode(meta)
    return HEADER.pack(kind, segment, len(text), size) + text


def encode_special_reply(
    status: int, headers: List[Tuple[str, str]], body: str, size: Optional[int] = None
) -> EncodedMeta:
    """Encode the meta, without its mark, of a reply whose body is not in the message.

    `body` is SHARED or PIECES. `size` is the number of bytes in all pieces, if it is known.
    """
    return encode({"s": status, "h": headers, BODY: body, "n": size})


class ReplyEncoder:
    """An encoder for metas of replies, with a cache, since most handlers have few of them."""

    def __init__(self) -> None:
        self._cache: Dict[Any, EncodedMeta] = {}

    def encode(self, status: int, headers: List[Tuple[str, str]], raised: bool) -> EncodedMeta:
        """Return the meta without its mark; `raised` is True if the handler raised."""
        key = (status, raised, tuple(headers))
        encoded = self._cache.get(key)
        if encoded is None:
            meta: Meta = {"s": status, "h": headers}
            encoded = encode(dict(meta, x=1) if raised else meta)
            cache_value(self._cache, key, encoded, len(encoded))
        return encoded


class MetaDecoder:
    """A decoder for metas of events and replies.

    Equal metas are one object, in which a reader may keep values that it derives from them.
    """

    def __init__(self) -> None:
        self._cache: Dict[bytes, Meta] = {}

    def event(self, raw: bytes) -> Tuple[Meta, Tuple[str, int]]:
        """Return meta and mark of an event."""
        text = raw[: -_EVENT_MARK.size]
        identity, moment = _EVENT_MARK.unpack_from(raw, len(text))
        return self._read(text), (identity.decode("ascii"), moment)

    def reply(self, raw: bytes) -> Tuple[Meta, Tuple[float, float]]:
        """Return meta and mark of a reply."""
        text = raw[: -_REPLY_MARK.size]
        started, duration = _REPLY_MARK.unpack_from(raw, len(text))
        return self._read(text), (started, duration)

    def _read(self, text: bytes) -> Meta:
        meta = self._cache.get(text)
        if meta is None:
            meta = cache_value(self._cache, text, decode(text), len(text))
        return meta


class MessageReader:
    """A parser that splits the bytes from a worker into messages.

    While `long` is True, the next bytes belong to one long message: read them into `get_buffer()`
    and call `buffer_updated` instead of `feed`.
    """

    def __init__(self) -> None:
        self._decoder = MetaDecoder()
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
            messages.append(self._message(kind, meta, data[middle:stop]))
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
        return [self._message(kind, bytes(whole[HEADER.size : middle]), whole[middle:])]

    def _message(self, kind: int, raw: bytes, body: Any) -> Message:
        if kind != REPLY:
            return Message(kind, decode(raw), body, None)
        meta, mark = self._decoder.reply(raw)
        return Message(kind, meta, body, mark)

    def _begin_long(self, data: bytes, start: int, size: int) -> None:
        self.long = True
        self._filled = len(data) - start
        self._whole = bytearray(size)
        self._whole[: self._filled] = memoryview(data)[start:]


def decode(meta: bytes) -> Meta:
    """Return a meta that has no mark."""
    return json.loads(meta.decode("ascii")) if meta else {}


def socket_pair() -> Tuple[socket.socket, socket.socket]:
    """Return connected sockets for the processor and a worker."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        # A buffer for a whole image takes one write, without waking the other side in between.
        # The kernel may cap it.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ends
