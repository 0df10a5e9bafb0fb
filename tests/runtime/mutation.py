"""A reproducible corpus of requests damaged in ways that have confused parsers."""

import random
from collections.abc import Iterator

from tests.runtime.malformed import FORMS

WHOLE = [
    b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET /a%20b?x=1&y HTTP/1.1\r\nHost: test:8080\r\nAccept: */*\r\nX-Empty:\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    b"GET http://test/abs?q HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nX: a \t b \r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\nabc\r\n00a\r\n0123456789\r\n0;x\r\nTrailer: yes\r\n\r\n",
    b"PUT /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
]
# Inserted text: line breaks in all forms, and text that determines the framing of a message.
PIECES = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r\n", b"\0", b"\t", b" ", b"\x0b", b"\x0c",
    b"\x7f", b"\x80", b"\xff", b"\x1b", b":", b";", b",", b"=", b'"', b"%", b"0", b"1", b"f", b"-",
    b"+", b"_", b".", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"\r\n ", b"\r\n\t",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:\t5\r\n",
    b"Content-Length : 5\r\n", b"content-length: 05\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding:chunked\r\n", b"Host: other\r\n", b"Connection: close\r\n", b"0\r\n\r\n",
    b"5\r\n", b"ffffffffffffffff\r\n", b"0x5\r\n", b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",
]  # fmt: skip


def streams(count: int, seed: int) -> Iterator[bytes]:
    """Return byte streams of valid and malformed requests, spliced and damaged."""
    rng = random.Random(seed)
    sources = WHOLE * 20 + [raw for _, raw, _ in FORMS if len(raw) < 2000]
    for _ in range(count):
        raw = bytearray(b"".join(rng.choices(sources, k=rng.choice((1, 1, 1, 2, 3)))))
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            _damage(raw, rng)
        yield bytes(raw)


def _damage(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw) + 1)
    kind = rng.randrange(6)
    if kind == 0:
        raw[at:at] = rng.choice(PIECES)
    elif kind == 1:
        # At the beginning of a line, the position of a header.
        starts = [i + 2 for i in range(len(raw) - 1) if raw[i : i + 2] == b"\r\n"]
        at = rng.choice(starts) if starts else at
        raw[at:at] = rng.choice(PIECES)
    elif kind == 2:
        raw[at : at + rng.choice((1, 1, 2, 5))] = b""
    elif kind == 3:
        raw[at : at + 1] = rng.choice(PIECES)
    elif kind == 4:
        raw[at : at + 1] = bytes([rng.randrange(256)])
    else:
        end = min(len(raw), at + rng.randrange(40))
        raw[at:at] = raw[at:end]
