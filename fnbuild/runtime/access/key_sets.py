"""Sets of keys for JSON Web Tokens (JWKS, RFC 7517): from a file, or from a URL with a cache.

The methods of a set block and are called in a thread. Keys that are not for signatures, of other
types or not safe are left out. A set from a URL has no symmetric keys: they would not be secret.
"""

import base64
import json
import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional
from urllib.parse import urlsplit

from .signatures import EllipticKey, PublicKey, RsaKey, SymmetricKey, check_key

# Seconds after which keys are read again, and for which old ones serve if that fails.
_FRESH = 300.0
_USABLE = 24 * 3600.0
# Seconds between two reads for a key that the set does not have, or after a failure.
_PAUSE = 30.0
_TIMEOUT = 5.0
_MAX_SIZE = 1024 * 1024
_MAX_KEYS = 100


class KeySetError(Exception):
    """The keys cannot be read; the message says where and why."""


class SigningKey(NamedTuple):
    """A key of a set; `identifier` is "" without a `kid`, `algorithm` "" for any of its type."""

    identifier: str
    algorithm: str
    key: PublicKey


def parse_key_set(data: bytes, *, symmetric: bool) -> List[SigningKey]:
    """Return the usable keys of a set; raise KeySetError if there is none."""
    try:
        entries = json.loads(data.decode("utf-8"))["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError('it is no key set: {"keys": [...]}') from None
    if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
        raise KeySetError("its keys are not a list of at most %d" % _MAX_KEYS)
    keys, reasons = [], []
    for entry in entries:
        try:
            key = _parse_key(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        reason = None if key is None else check_key(key.key)
        if reason is not None:
            reasons.append(reason)
        elif key is not None and (symmetric or not isinstance(key.key, SymmetricKey)):
            keys.append(key)
    if not keys:
        raise KeySetError("it has no usable key" + "".join(": " + text for text in reasons[:1]))
    return keys


def _parse_key(entry: Dict[str, Any]) -> Optional[SigningKey]:
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return None
    kind = entry["kty"]
    key: PublicKey
    if kind == "RSA":
        key = RsaKey(_number(entry["n"]), _number(entry["e"]))
    elif kind == "EC" and entry["crv"] == "P-256":
        key = EllipticKey(_number(entry["x"]), _number(entry["y"]))
    elif kind == "oct":
        key = SymmetricKey(decode_segment(entry["k"]))
    else:
        return None
    return SigningKey(str(entry.get("kid", "")), str(entry.get("alg", "")), key)


def decode_segment(text: str) -> bytes:
    """Decode base64url without padding; raise ValueError if the text is anything else."""
    data = text.encode("ascii")
    if data.translate(None, _URL_SAFE):
        raise ValueError("it is not base64url")
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _number(text: str) -> int:
    return int.from_bytes(decode_segment(text), "big")


class KeySet:
    """The keys of a source, read again when they are old or a key is missing."""

    def __init__(self, read: Callable[[], List[SigningKey]], origin: str) -> None:
        self._read = read
        self._origin = origin
        self._keys: List[SigningKey] = []
        self._loaded = -_USABLE
        self._tried = -_USABLE
        self._problem = ""

    def find(self, identifier: str) -> List[SigningKey]:
        """Return the keys that may have signed a token with this `kid`, "" for none.

        Raises KeySetError if there are no keys.
        """
        age = time.monotonic() - self._loaded
        if age > _FRESH:
            self._refresh()
        matching = self._matching(identifier)
        if not matching:
            self._refresh()
            matching = self._matching(identifier)
        if not self._keys or time.monotonic() - self._loaded > _USABLE:
            raise KeySetError("the keys of %s cannot be read: %s" % (self._origin, self._problem))
        return matching

    def _matching(self, identifier: str) -> List[SigningKey]:
        if not identifier:
            return self._keys
        return [key for key in self._keys if key.identifier in (identifier, "")]

    def _refresh(self) -> None:
        """Read the keys, unless that was tried a short time ago."""
        now = time.monotonic()
        if now - self._tried < _PAUSE:
            return
        self._tried = now
        try:
            self._keys = self._read()
        except (KeySetError, OSError, ValueError) as problem:
            self._problem = str(getattr(problem, "reason", problem))
        else:
            self._loaded = now


class FileKeySet(KeySet):
    """The keys of a file, which is read again when it has changed."""

    def __init__(self, path: str) -> None:
        super().__init__(self._read_file, path)
        self._path = path
        self._version: Any = None

    def find(self, identifier: str) -> List[SigningKey]:
        try:
            status = os.stat(self._path)
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            version = None
        if version != self._version:
            self._version = version
            self._tried = self._loaded = -_USABLE
        return super().find(identifier)

    def _read_file(self) -> List[SigningKey]:
        with open(self._path, "rb") as file:
            return parse_key_set(file.read(_MAX_SIZE), symmetric=True)


def url_key_set(url: str) -> KeySet:
    """Return the keys of a URL. Redirects are not followed."""
    # It would delay the start of every processor by 50 ms, and few need it.
    from urllib.error import URLError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = build_opener(NoRedirects)
    headers = {"Accept": "application/json", "User-Agent": "fnbuild"}
    request = Request(url, headers=headers)  # noqa: S310 - settings allow http and https only

    def read() -> List[SigningKey]:
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                data = _read_all(response)
        except URLError as problem:
            code = getattr(problem, "code", None)
            raise KeySetError("status %d" % code if code else str(problem.reason)) from None
        return parse_key_set(data, symmetric=False)

    return KeySet(read, urlsplit(url)._replace(query="").geturl())


def _read_all(response: Any) -> bytes:
    """Return the body; raise KeySetError if it is too large or takes too long."""
    deadline = time.monotonic() + _TIMEOUT
    data: bytes = b""
    while True:
        chunk = response.read1(64 * 1024)
        data += chunk
        if not chunk:
            return data
        if len(data) > _MAX_SIZE:
            raise KeySetError("it has more than %d bytes" % _MAX_SIZE)
        if time.monotonic() > deadline:
            raise KeySetError("it did not arrive within %g s" % _TIMEOUT)


def secret_key_set(secret: str) -> KeySet:
    """Return a set with one symmetric key."""
    keys = [SigningKey("", "", SymmetricKey(secret.encode("utf-8")))]
    return KeySet(lambda: keys, "the secret")
