"""A strict parser for heads of requests: it rejects what two servers could read differently.

A head is checked as a whole with searches that run in C, then line by line. Parsed lines are
cached, since clients repeat most of them.
"""

import re
from functools import lru_cache
from typing import Dict, List, Optional, Tuple
from urllib.parse import unquote

# The bytes that a head may have besides its line breaks: no control characters except the tab.
_ALLOWED_BYTES = bytes(c for c in range(256) if c >= 32 and c != 127) + b"\t"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TARGET = re.compile(r"[!\"$-~]+\Z")
_ABSOLUTE = re.compile(r"https?://[^/?#@]+(?=[/?]|\Z)", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?\Z")
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]\Z")
_DIGITS = re.compile(r"[0-9]{1,19}\Z")

_FRAMING = frozenset(
    ["content-length", "transfer-encoding", "connection", "host", "expect"]
)  # fmt: skip

# A line may be as long as a head.
_MAX_CACHED_LINES = 256

# Method, target, version, path, query.
RequestLine = Tuple[str, str, str, str, str]
# Name and value, then the name in lower case if it decides how the message is read.
HeaderField = Tuple[Tuple[str, str], str]


class HttpError(Exception):
    """A request that the server answers with `status` itself."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestHead:
    """A checked request line and header.

    `target` is that of the request line, `path` and `query` are its parts. `version` is `1.0` or
    `1.1`. `fields` are names and values as they were received. `keep_alive` is True if the client
    may use the connection for another request. `length` is the body's size in bytes, or None if it
    comes in chunks.
    """

    __slots__ = (
        "_lookup", "expects_continue", "fields", "keep_alive", "length",
        "method", "path", "query", "target", "version",
    )  # fmt: skip

    def __init__(self, start: RequestLine, fields: Tuple[Tuple[str, str], ...]) -> None:
        self.method, self.target, self.version, self.path, self.query = start
        self.fields = fields
        self.length: Optional[int] = 0
        self.keep_alive = self.version != "1.0"
        self.expects_continue = False
        self._lookup: Optional[Dict[str, str]] = None

    def lookup(self) -> Dict[str, str]:
        """Return the values by lower-case name; of several, the last one."""
        if self._lookup is None:
            self._lookup = {name.lower(): value for name, value in self.fields}
        return self._lookup


def parse_head(raw: bytes) -> RequestHead:
    """Parse a head without the empty line at its end. Raises HttpError."""
    lines = raw.decode("latin-1").split("\r\n")
    if raw.translate(None, _ALLOWED_BYTES) != b"\r\n" * (len(lines) - 1):
        raise HttpError(400, "the request's head has a control character or a lone line break")
    start = _parse_request_line(lines[0])
    fields = [_parse_field(line) for line in lines[1:]]
    framing = [field for field in fields if field[1]]
    return _make_head(start, tuple(field[0] for field in fields), framing)


def check_partial_head(begun: bytes, checked: int) -> int:
    """Check the received part of a head; raise HttpError if no continuation can be valid.

    The first `checked` bytes were checked before. Return the number of bytes checked now.
    """
    if not checked and not _TOKEN.match(begun[:1].decode("latin-1")):
        raise HttpError(400, "this is not an HTTP request")
    raw = begun[checked:]
    breaks = raw.count(b"\r\n")
    if raw.count(b"\n") != breaks or raw.count(b"\r") - raw.endswith(b"\r") != breaks:
        raise HttpError(400, "lines of the request's head do not end in CR LF")
    if raw.translate(None, _ALLOWED_BYTES + b"\r\n"):
        raise HttpError(400, "the request's head has a control character")
    return len(begun) - begun.endswith(b"\r")


def check_trailer_field(line: bytes) -> None:
    """Raise HttpError for a trailer line that is invalid in a head, or that belongs in the head."""
    if line.translate(None, _ALLOWED_BYTES):
        raise HttpError(400, "a line of the trailer has a control character")
    if _parse_field(line.decode("latin-1"))[1]:
        raise HttpError(400, "the trailer has a header that must precede the body")


@lru_cache(maxsize=_MAX_CACHED_LINES)
def _parse_field(line: str) -> HeaderField:
    name, colon, value = line.partition(":")
    if not colon:
        raise HttpError(400, "a header line has no colon")
    if not _TOKEN.match(name):
        raise HttpError(400, "the name of a header is empty or has an invalid character")
    lowered = name.lower()
    return (name, value.strip(" \t")), lowered if lowered in _FRAMING else ""


@lru_cache(maxsize=_MAX_CACHED_LINES)
def _parse_request_line(line: str) -> RequestLine:
    """Return method, target, version, path and query of a request line."""
    parts = line.split(" ")
    if len(parts) != 3:
        raise HttpError(400, "the request line is not a method, a target and a version")
    method, target, version = parts
    if not _TOKEN.match(method):
        raise HttpError(400, "the method has an invalid character")
    if not _VERSION.match(version):
        raise HttpError(400, "the request line does not end in an HTTP version")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise HttpError(505, "%s is not supported, only HTTP/1.1" % version)
    if not _TARGET.match(target):
        raise HttpError(400, "the request target is empty or has an invalid character")
    local = target
    if not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute:
            local = target[absolute.end() :]
        elif target != "*" or method != "OPTIONS":
            raise HttpError(400, "the request target is neither a path nor an http URL")
    path, _, query = local.partition("?")
    return method, target, version[5:], unquote(path) if "%" in path else path or "/", query


def _make_head(
    start: RequestLine, fields: Tuple[Tuple[str, str], ...], framing: List[HeaderField]
) -> RequestHead:
    """Return the head with the body's length and the connection's lifetime from its header."""
    head = RequestHead(start, fields)
    single: Dict[str, str] = {}
    connection: List[str] = []
    for (_, value), name in framing:
        if name == "connection":
            connection += [token.strip(" \t").lower() for token in value.split(",")]
        elif name in single:
            raise HttpError(400, "the header %s occurs more than once" % name)
        else:
            single[name] = value
    _apply_host(head, single.get("host"))
    _apply_length(head, single.get("content-length"), single.get("transfer-encoding"))
    if "close" in connection:
        head.keep_alive = False
    elif "keep-alive" in connection:
        head.keep_alive = True
    expect = single.get("expect")
    if expect is not None and head.version == "1.1":
        if expect.lower() != "100-continue":
            raise HttpError(417, "the expectation %r is not supported, only 100-continue" % expect)
        head.expects_continue = True
    return head


def _apply_host(head: RequestHead, host: Optional[str]) -> None:
    if host is None:
        if head.version == "1.1":
            raise HttpError(400, "the header Host is missing")
    elif not _HOST.match(host):
        raise HttpError(400, "the header Host does not name a host")


def _apply_length(head: RequestHead, length: Optional[str], encoding: Optional[str]) -> None:
    if encoding is not None:
        if length is not None:
            raise HttpError(400, "both Content-Length and Transfer-Encoding are present")
        if head.version == "1.0":
            raise HttpError(400, "HTTP/1.0 has no Transfer-Encoding")
        if encoding.lower() != "chunked":
            raise HttpError(501, "the only supported Transfer-Encoding is chunked")
        head.length = None
    elif length is not None:
        if not _DIGITS.match(length):
            raise HttpError(400, "Content-Length is not a number of bytes")
        head.length = int(length)
