"""The head of a request, read strictly: what two servers could read differently is refused.

A head is checked as a whole with searches that run in C, then split into lines. Heads seen before
are not read again: clients on a kept connection send the same one over and over.
"""

import re
from typing import Dict, List, Optional, Tuple
from urllib.parse import unquote

# Bytes that no head may have besides its line breaks: control characters except the tab.
_PLAIN = bytes(c for c in range(256) if c >= 32 and c != 127) + b"\t"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TARGET = re.compile(r"[!\"$-~]+\Z")
_ABSOLUTE = re.compile(r"https?://[^/?#@]+(?=[/?]|\Z)", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?\Z")
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]\Z")
_DIGITS = re.compile(r"[0-9]{1,19}\Z")

_FRAMING = frozenset(
    ["content-length", "transfer-encoding", "connection", "host", "expect"]
)  # fmt: skip
_NAMES_CAP = 1024
_HEADS_CAP = 256
_HEAD_KEPT = 1024


class Refusal(Exception):  # noqa: N818 - an answer, no fault of the program
    """A request that is answered with `status` and never reaches the application."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Head:
    """A checked request line and header. Shared between equal requests, so never to be changed.

    `length` is the body's size in bytes, or None when it comes in chunks.
    """

    __slots__ = (
        "_lookup", "expects_continue", "fields", "keep_alive", "length",
        "method", "path", "query", "target", "version",
    )  # fmt: skip

    def __init__(self, method: str, target: str, version: str) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.path = ""
        self.query = ""
        self.fields: Tuple[Tuple[str, str], ...] = ()
        self.length: Optional[int] = 0
        self.keep_alive = version != "1.0"
        self.expects_continue = False
        self._lookup: Optional[Dict[str, str]] = None

    def lookup(self) -> Dict[str, str]:
        """Values by lower-case name, the last of several."""
        if self._lookup is None:
            self._lookup = {name.lower(): value for name, value in self.fields}
        return self._lookup


class HeadParser:
    """Reads heads and remembers the small ones, so that a repeated head costs one look-up."""

    def __init__(self) -> None:
        self._names: Dict[str, str] = {}
        self._heads: Dict[bytes, Head] = {}

    def parse(self, raw: bytes) -> Head:
        """Read a head, given without the empty line that ends it. Raises Refusal."""
        head = self._heads.get(raw)
        if head is not None:
            return head
        lines = raw.split(b"\r\n")
        if raw.translate(None, _PLAIN) != b"\r\n" * (len(lines) - 1):
            raise Refusal(400, "the request's head has a control character or a lone line break")
        text = raw.decode("latin-1").split("\r\n")
        head = _request_line(text[0])
        framing = self._fields(head, text)
        _apply(head, framing)
        if len(raw) <= _HEAD_KEPT:
            if len(self._heads) >= _HEADS_CAP:
                # Cheaper than keeping an order; what is in use comes back at once.
                self._heads.clear()
            self._heads[bytes(raw)] = head
        return head

    def _fields(self, head: Head, lines: List[str]) -> List[Tuple[str, str]]:
        """Fill in the fields and give back those that decide how the message is read."""
        names = self._names
        fields = []
        framing = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            lowered = names.get(name) or self._learn(name)
            if not colon:
                raise Refusal(400, "a header line has no colon")
            value = value.strip(" \t")
            fields.append((name, value))
            if lowered in _FRAMING:
                framing.append((lowered, value))
        head.fields = tuple(fields)
        return framing

    def _learn(self, name: str) -> str:
        if not _TOKEN.match(name):
            raise Refusal(400, "the name of a header is empty or has a character it may not have")
        lowered = name.lower()
        if len(self._names) < _NAMES_CAP:
            self._names[name] = lowered
        return lowered


def check_partial(raw: bytes) -> None:
    """Refuse the beginning of a head at once where no continuation could mend it."""
    if not _TOKEN.match(raw[:1].decode("latin-1")):
        raise Refusal(400, "this is not an HTTP request")
    breaks = raw.count(b"\r\n")
    if raw.count(b"\n") != breaks or raw.count(b"\r") - raw.endswith(b"\r") != breaks:
        raise Refusal(400, "lines of the request's head do not end in CR LF")
    if raw.translate(None, _PLAIN + b"\r\n"):
        raise Refusal(400, "the request's head has a control character")


def check_field(line: bytes) -> None:
    """Refuse a line of a trailer that would be refused in a head."""
    name, colon, _ = line.decode("latin-1").partition(":")
    if line.translate(None, _PLAIN) or not colon or not _TOKEN.match(name):
        raise Refusal(400, "a line of the trailer is not a header")


def _request_line(line: str) -> Head:
    parts = line.split(" ")
    if len(parts) != 3:
        raise Refusal(400, "the request line is not a method, a target and a version")
    method, target, version = parts
    if not _TOKEN.match(method):
        raise Refusal(400, "the method has a character it may not have")
    if not _VERSION.match(version):
        raise Refusal(400, "the request line does not end in an HTTP version")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refusal(505, "%s is not spoken here, HTTP/1.1 is" % version)
    if not _TARGET.match(target):
        raise Refusal(400, "the request target is empty or has a character it may not have")
    head = Head(method, target, version[5:])
    local = target
    if not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute:
            local = target[absolute.end() :]
        elif target != "*" or method != "OPTIONS":
            raise Refusal(400, "the request target is neither a path nor an http URL")
    path, _, head.query = local.partition("?")
    head.path = unquote(path) if "%" in path else path or "/"
    return head


def _apply(head: Head, framing: List[Tuple[str, str]]) -> None:
    """Decide from the header how long the body is and how long the connection lives."""
    single: Dict[str, str] = {}
    connection: List[str] = []
    for name, value in framing:
        if name == "connection":
            connection += [token.strip(" \t").lower() for token in value.split(",")]
        elif name in single:
            raise Refusal(400, "the header %s stands there more than once" % name)
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
            raise Refusal(417, "the expectation %r cannot be met, only 100-continue" % expect)
        head.expects_continue = True


def _apply_host(head: Head, host: Optional[str]) -> None:
    if host is None:
        if head.version == "1.1":
            raise Refusal(400, "the header Host is missing")
    elif not _HOST.match(host):
        raise Refusal(400, "the header Host does not name a host")


def _apply_length(head: Head, length: Optional[str], encoding: Optional[str]) -> None:
    if encoding is not None:
        if length is not None:
            raise Refusal(400, "both Content-Length and Transfer-Encoding say where the body ends")
        if head.version == "1.0":
            raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding")
        if encoding.lower() != "chunked":
            raise Refusal(501, "the only Transfer-Encoding read here is chunked")
        head.length = None
    elif length is not None:
        if not _DIGITS.match(length):
            raise Refusal(400, "Content-Length is not a number of bytes")
        head.length = int(length)
