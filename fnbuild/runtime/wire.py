"""What the processor and a worker say to each other over their socket pair.

A message is one fixed header (kind, segment, length of the meta, length of the body), the meta as
JSON and the body as raw bytes. Bodies are never encoded or looked into. With a segment's number the
body lies in that piece of shared memory. A message may come with open descriptors: that of a
segment which the worker has not seen yet, or those that the message is about. Behind the meta of an
event and of a reply stands its mark in binary: what differs each time, so that most metas are one
that was seen before.
"""

import json
import socket
import struct
from json.encoder import encode_basestring_ascii
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from .cache import cache_value

Body = Union[bytes, bytearray, memoryview]
Meta = Dict[str, Any]
# Meta as it goes over the socket: ASCII JSON.
EncodedMeta = bytes

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

# Where the body of a REPLY is, as its meta has it under `BODY`: in the memory that was asked for
# with WANT, or in the PIECE messages that follow, up to END. Without the key it is in the message.
BODY = "b"
SHARED = "shared"
PIECES = "pieces"

# Bodies of this size and above are not sent through the socket in one message.
LARGE_BODY = 4 * 1024 * 1024

# Below this size one joined write is cheaper than two.
JOINED_WRITE = 64 * 1024
# What one read takes at most; a message that is longer is read into memory of its own size.
CHUNK = 64 * 1024
_SEND_BUFFER = 1024 * 1024

# `mark` of an event: its id, and its time in seconds since the epoch; of a reply: when the handler
# began (`time.monotonic`), and how many seconds it took; of other messages nothing.
Message = NamedTuple("Message", [("kind", int), ("meta", Meta), ("body", Any), ("mark", Any)])
_EVENT_MARK = struct.Struct("!36sQ")
_REPLY_MARK = struct.Struct("!dd")


def _make_encode() -> Callable[[Any], str]:
    """JSON as json.dumps writes it, without making an encoder for every message."""
    usual = json.JSONEncoder(separators=(",", ":"), default=repr)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return usual.encode
    quick = make({}, repr, encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(quick(value, 0))


_encode = _make_encode()


def encode(meta: Any) -> EncodedMeta:
    """The meta, or a part of it, as it goes over the socket."""
    return _encode(meta).encode("ascii")


def encode_event(meta: EncodedMeta, identity: str, moment: float) -> EncodedMeta:
    """The meta of an event with its id, a UUID, and its time in seconds since the epoch."""
    return meta + _EVENT_MARK.pack(identity.encode("ascii"), int(moment))


def encode_reply(meta: EncodedMeta, began: float, duration: float) -> EncodedMeta:
    """The meta of a reply with its times, in seconds."""
    return meta + _REPLY_MARK.pack(began, duration)


def encode_head(kind: int, meta: Union[Meta, EncodedMeta], size: int, segment: int = 0) -> bytes:
    """Header and meta of a message whose body has `size` bytes."""
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
    """The metas of replies, of which most handlers have few kinds."""

    def __init__(self) -> None:
        self._known: Dict[Any, EncodedMeta] = {}

    def encode(self, status: int, headers: List[Tuple[str, str]], raised: bool) -> EncodedMeta:
        """The meta without its mark; `raised` tells that the handler raised."""
        key = (status, raised, tuple(headers))
        known = self._known.get(key)
        if known is None:
            meta: Meta = {"s": status, "h": headers}
            known = encode(dict(meta, x=1) if raised else meta)
            cache_value(self._known, key, known, len(known))
        return known


class MetaDecoder:
    """Metas that were read before. Equal ones are one object, in which a reader may keep what it
    derives from them.
    """

    def __init__(self) -> None:
        self._known: Dict[bytes, Meta] = {}

    def event(self, raw: bytes) -> Tuple[Meta, Tuple[str, int]]:
        """Meta and mark of an event."""
        text = raw[: -_EVENT_MARK.size]
        identity, moment = _EVENT_MARK.unpack_from(raw, len(text))
        return self._read(text), (identity.decode("ascii"), moment)

    def reply(self, raw: bytes) -> Tuple[Meta, Tuple[float, float]]:
        """Meta and mark of a reply."""
        text = raw[: -_REPLY_MARK.size]
        began, duration = _REPLY_MARK.unpack_from(raw, len(text))
        return self._read(text), (began, duration)

    def _read(self, text: bytes) -> Meta:
        meta = self._known.get(text)
        if meta is None:
            meta = cache_value(self._known, text, decode(text), len(text))
        return meta


class MessageReader:
    """Cuts the processor's incoming chunks into messages.

    While a `long` message arrives its next bytes belong to `room`, and are told of by `filled`.
    """

    def __init__(self) -> None:
        self._memory = MetaDecoder()
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
                if stop - start > CHUNK:
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
            return Message(kind, decode(raw), body, None)
        meta, mark = self._memory.reply(raw)
        return Message(kind, meta, body, mark)

    def _begin(self, data: bytes, start: int, size: int) -> None:
        self.long = True
        self._at = len(data) - start
        self._whole = bytearray(size)
        self._whole[: self._at] = memoryview(data)[start:]


def decode(meta: bytes) -> Meta:
    """The meta from the socket, without a mark."""
    return json.loads(meta.decode("ascii")) if meta else {}


def socket_pair() -> Tuple[socket.socket, socket.socket]:
    """The two ends: the processor's and the worker's."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        # With room for a whole picture one write does, where the other side need not wake up first.
        # The kernel caps this as it sees fit.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ends
