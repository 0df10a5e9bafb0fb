"""Tokens and their roles, sessions of the page, and sign-in links.

A token is 256 random bits, so its plain SHA-256 is enough to keep. One that is configured outside
(an environment variable or a file, such as a cluster's Secret) takes the place of the recorded one.

A session is signed with a key that the database does not hold: the token itself where it is
configured outside, else a file of the data directory together with the token's digest. So a copy of
the database, such as a backup, is not enough to make a session. A session outlives the dashboard,
several dashboards with one token accept it, and it ends when the token is renewed.

A sign-in link has a code that a browser exchanges once for a session, kept in memory only. A link
that remains in a browser's history is useless once it was used or has expired.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from starlette.datastructures import Headers

from fnbuild.errors import InputError, PreconditionError, StoreError
from fnbuild.platforms import audit
from fnbuild.store import Store
from fnbuild.store.dashboard import TokenTable

SESSION_KEY_FILE = "session.key"
_KEY_BYTES = 32


def read_or_create_signing_key(folder: Path) -> bytes:
    """Return the key that signs sessions, from a file of the data directory.

    The file is created on first use. A key that other users could read, or that is truncated, is
    replaced, which ends its sessions.
    """
    path = folder / SESSION_KEY_FILE
    try:
        return _read_key(path) or _create_key(path)
    except OSError as error:
        raise StoreError(
            f"cannot use {path}: {error.strerror}",
            hint=f"the owner of {folder} must be able to read and write it",
        ) from error


def _read_key(path: Path) -> bytes:
    """Return the key, or b"" if there is none or it cannot be trusted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        key = file.read()
        mode = os.fstat(descriptor).st_mode
    if len(key) == _KEY_BYTES and not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return key
    with suppress(FileNotFoundError):
        path.unlink()
    return b""


def _create_key(path: Path) -> bytes:
    """Write a new key unless another process did so first; return the stored key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        # A link never overwrites and shows the whole file, so two dashboards agree on one key.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_bytes()


CODE_SECONDS = 900
_MAX_CODES = 8


class SignInCodes:
    """Codes that have been issued and neither used nor expired."""

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}

    def issue(self) -> str:
        """Return a code for one sign-in within the next 15 minutes."""
        code = secrets.token_urlsafe(32)
        while len(self._deadlines) >= _MAX_CODES:
            del self._deadlines[next(iter(self._deadlines))]
        self._deadlines[_digest(code)] = time.monotonic() + CODE_SECONDS
        return code

    def redeem(self, code: str) -> bool:
        """Return True the first time that a valid code is presented."""
        expected = _digest(code)
        matches = [digest for digest in self._deadlines if hmac.compare_digest(digest, expected)]
        return any(self._deadlines.pop(digest) > time.monotonic() for digest in matches)


Role = Literal["none", "read", "write"]
TokenKind = Literal["read", "write"]

SESSION_COOKIE = "fnbuild_session"
SESSION_SECONDS = 30 * 24 * 3600

TOKEN_VARIABLES: dict[TokenKind, str] = {
    "write": "FNBUILD_DASHBOARD_TOKEN",
    "read": "FNBUILD_DASHBOARD_READ_TOKEN",
}
"""Variables with configured tokens; VARIABLE_FILE may name a file with the token instead."""

# "user:pass", which mlrun sends with all requests about projects (mlrun/utils/clients/nuclio). It
# does not count as an attempt.
_MLRUN_CREDENTIALS = "dXNlcjpwYXNz"

_RANK: dict[str, int] = {"none": 0, "open": 0, "read": 1, "write": 2}
_MIN_TOKEN_LENGTH = 20
_MAX_ATTEMPTS = 10
_ATTEMPTS_SECONDS = 60.0
_MAX_PEERS = 4096


def allows(role: Role, access: str) -> bool:
    """Return True if the role is sufficient for the access that an endpoint needs."""
    return _RANK[role] >= _RANK[access]


def strongest(roles: Iterable[Role]) -> Role:
    """Return the role with the most access."""
    return max(roles, key=lambda role: _RANK[role], default="none")


class Tokens:
    """The tokens of a data directory, or those that are configured outside it."""

    def __init__(self, store: Store):
        self._store = store
        self._records = TokenTable(store)
        self._file_key: bytes | None = None
        tokens = {kind: token for kind in TOKEN_VARIABLES if (token := configured_token(kind))}
        self._configured = {kind: _digest(token) for kind, token in tokens.items()}
        self._signing_keys = {kind: _derive_key(token.encode()) for kind, token in tokens.items()}

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def token_role(self, token: str) -> Role:
        """Return the role of a token, `none` if it is unknown."""
        token_digest = _digest(token)
        for kind, digest in self._digests().items():
            if hmac.compare_digest(token_digest, digest):
                return kind
        return "none"

    def create_if_missing(self, kind: TokenKind) -> str:
        """Create a token if there is none; return the new token, else ""."""
        if kind in self._configured:
            return ""
        token = _new_token()
        if not self._records.add(kind, _digest(token)):
            return ""
        audit.record_change("make token", kind)
        return token

    def renew(self, kind: TokenKind) -> str:
        """Replace the recorded token, which ends its sessions; return the new one."""
        self._refuse_configured(kind)
        token = _new_token()
        self._records.put(kind, _digest(token))
        audit.record_change("renew token", kind)
        return token

    def create(self, kind: TokenKind) -> str:
        """Create a token and return it. Raises `PreconditionError` if there is one already."""
        self._refuse_configured(kind)
        if token := self.create_if_missing(kind):
            return token
        row = self._records.all()[kind]
        raise PreconditionError(
            f"the {kind} token was shown when it was created ({row.created}); it is not stored",
            hint=f"`fnbuild dashboard token --new{' --read' if kind == 'read' else ''}`"
            " replaces it",
        )

    def _refuse_configured(self, kind: TokenKind) -> None:
        if kind in self._configured:
            raise PreconditionError(
                f"the {kind} token is set by {TOKEN_VARIABLES[kind]}",
                hint="read or change it there",
            )

    def create_session(self, role: Role) -> str:
        """Return the value of a session cookie for a client with a token of that role."""
        expires = int(time.time()) + SESSION_SECONDS
        kind = _token_kind(role)
        key = self._signing_key(kind, self._digests()[kind])
        return f"{role}.{expires}.{_signature(key, role, expires)}"

    def session_role(self, session: str) -> Role:
        """Return the role in a session cookie, `none` if it is forged or has expired."""
        role, _, rest = session.partition(".")
        expires, _, signature = rest.partition(".")
        if role not in TOKEN_VARIABLES or not expires.isdecimal() or len(expires) > 12:
            return "none"
        kind = _token_kind(role)
        digest = self._digests().get(kind)
        if digest is None or int(expires) < time.time():
            return "none"
        expected = _signature(self._signing_key(kind, digest), kind, int(expires))
        return kind if hmac.compare_digest(signature.encode(), expected.encode()) else "none"

    def _signing_key(self, kind: TokenKind, digest: str) -> bytes:
        """Return the key that signs sessions of a token; the database does not contain it."""
        if kind in self._signing_keys:
            return self._signing_keys[kind]
        if self._file_key is None:
            self._file_key = read_or_create_signing_key(self._store.path.parent)
        return hmac.digest(self._file_key, digest.encode(), "sha256")

    def _digests(self) -> dict[TokenKind, str]:
        recorded = {_token_kind(role): row.digest for role, row in self._records.all().items()}
        return {**recorded, **self._configured}


class FailedAttempts:
    """Wrong tokens by peer: ten a minute, then the peer has to wait."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def seconds_to_wait(self, peer: str) -> int:
        """Return the seconds until the peer may try again, 0 if it may now."""
        times = self._times.get(peer)
        if times is None or len(times) < _MAX_ATTEMPTS:
            return 0
        remaining = times[0] + _ATTEMPTS_SECONDS - time.monotonic()
        return max(0, int(remaining) + 1) if remaining > 0 else 0

    def add(self, peer: str) -> None:
        """Record a wrong token."""
        if len(self._times) >= _MAX_PEERS and peer not in self._times:
            del self._times[next(iter(self._times))]
        self._times.setdefault(peer, deque(maxlen=_MAX_ATTEMPTS)).append(time.monotonic())


def presented_tokens(headers: Headers) -> list[str]:
    """Return the tokens of a request, from all headers in which clients send them.

    These are `Authorization: Bearer`, the password of `Basic`, and the cookie `session` of
    nuclio-jupyter (nuclio/auth.py): `j:` and a JSON object with the token as `sid`, percent-encoded
    or not.
    """
    tokens = []
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        tokens.append(value.strip())
    elif scheme.lower() == "basic" and value.strip() != _MLRUN_CREDENTIALS:
        tokens.append(_basic_password(value))
    tokens.append(_jupyter_token(cookie_value(headers, "session")))
    return [token for token in tokens if token]


def cookie_value(headers: Headers, name: str) -> str:
    """Return the value of a cookie, "" if there is none."""
    for header in headers.getlist("cookie"):
        # A JSON object has no semicolon outside of strings, and tokens have none at all.
        for part in header.split(";"):
            key, _, value = part.partition("=")
            if key.strip() == name:
                return value.strip()
    return ""


def _basic_password(value: str) -> str:
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]


def _jupyter_token(value: str) -> str:
    """Return the token in nuclio-jupyter's cookie, "" if there is none."""
    text = _unquote_cookie(value)
    try:
        session = json.loads(text.removeprefix("j:"))
    except (ValueError, RecursionError):
        return ""
    sid = session.get("sid") if isinstance(session, dict) else None
    return sid if isinstance(sid, str) else ""


def _unquote_cookie(value: str) -> str:
    if value.startswith('"'):
        try:
            parsed = SimpleCookie(f"session={value}").get("session")
        except CookieError:
            return ""
        value = parsed.value if parsed else value
    return unquote(value)


def configured_token(kind: TokenKind) -> str:
    """Return the token in the environment or in a file that it names, "" if there is none."""
    variable = TOKEN_VARIABLES[kind]
    if token := os.environ.get(variable, "").strip():
        _refuse_short(token, variable)
        return token
    name = os.environ.get(f"{variable}_FILE", "")
    if not name:
        return ""
    try:
        token = Path(name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{variable}_FILE: cannot read {name}", hint="a file with the token and nothing else"
        ) from error
    if not token:
        raise InputError(f"{variable}_FILE: {name} is empty", hint="a file with the token")
    _refuse_short(token, f"{variable}_FILE: {name}")
    return token


def _refuse_short(token: str, place: str) -> None:
    if len(token) < _MIN_TOKEN_LENGTH:
        raise InputError(
            f"{place}: a token of {len(token)} characters can be guessed",
            hint=f"{_MIN_TOKEN_LENGTH} at least, as `openssl rand -hex 32` makes them",
        )


def _token_kind(role: str) -> TokenKind:
    return "write" if role == "write" else "read"


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _derive_key(token: bytes) -> bytes:
    """Derive a signing key from a token; it cannot be derived from the token's digest."""
    return hmac.digest(token, b"fnbuild session key", "sha256")


def _signature(key: bytes, role: str, expires: int) -> str:
    message = f"fnbuild session {role} {expires}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()
