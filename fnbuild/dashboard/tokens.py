"""Who may do what: tokens, and the sessions of the page.

A token is 256 random bits, so its plain SHA-256 is enough to keep. One that comes from outside (an
environment variable or a file, such as a cluster's Secret) takes the place of the recorded one.
A session is signed with a key that the database does not hold: the token itself where it comes
from outside, else a file of the data directory (`sessionkey`) together with the token's digest. It
outlives the dashboard, several dashboards with one token take it, and it ends when the token is
renewed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from starlette.datastructures import Headers

from fnbuild.dashboard.sessionkey import session_key
from fnbuild.errors import InputError, PreconditionError
from fnbuild.platforms import audit
from fnbuild.store import Store
from fnbuild.store.dashboard import TokenTable

Role = Literal["none", "read", "write"]
Kind = Literal["read", "write"]

SESSION_COOKIE = "fnbuild_session"
SESSION_SECONDS = 30 * 24 * 3600

VARIABLES: dict[Kind, str] = {
    "write": "FNBUILD_DASHBOARD_TOKEN",
    "read": "FNBUILD_DASHBOARD_READ_TOKEN",
}
"""Where tokens from outside are: the variable itself, or a file that VARIABLE_FILE names."""

# "user:pass", by which mlrun signs its calls about projects everywhere
# (mlrun/utils/clients/nuclio): no attempt at a token.
_MLRUN = "dXNlcjpwYXNz"

_RANK: dict[str, int] = {"none": 0, "open": 0, "read": 1, "write": 2}
_SHORTEST = 20
_ATTEMPTS = 10
_ATTEMPTS_SECONDS = 60.0
_PEERS = 4096


def allows(role: Role, access: str) -> bool:
    """Whether the role is enough for an address's access."""
    return _RANK[role] >= _RANK[access]


def strongest(roles: Iterable[Role]) -> Role:
    """The role that allows most of all these."""
    return max(roles, key=lambda role: _RANK[role], default="none")


class Tokens:
    """The tokens of one data directory, or of its surroundings."""

    def __init__(self, store: Store):
        self._store = store
        self._records = TokenTable(store)
        self._file_key: bytes | None = None
        outside = {kind: token for kind in VARIABLES if (token := from_outside(kind))}
        self._outside = {kind: _digest(token) for kind, token in outside.items()}
        self._signing = {kind: _derived(token.encode()) for kind, token in outside.items()}

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def role_of(self, token: str) -> Role:
        """What the token allows, `none` for one that is unknown."""
        given = _digest(token)
        for kind, digest in self._digests().items():
            if hmac.compare_digest(given, digest):
                return kind
        return "none"

    def ensure(self, kind: Kind) -> str:
        """A token that was made just now because there was none, else ""."""
        if kind in self._outside:
            return ""
        token = _new()
        if not self._records.add(kind, _digest(token)):
            return ""
        audit.record_change("make token", kind)
        return token

    def renew(self, kind: Kind) -> str:
        """A new token in place of the recorded one, whose sessions end."""
        self._refuse_outside(kind)
        token = _new()
        self._records.put(kind, _digest(token))
        audit.record_change("renew token", kind)
        return token

    def first(self, kind: Kind) -> str:
        """A token where there was none; `PreconditionError` where there is one already."""
        self._refuse_outside(kind)
        if token := self.ensure(kind):
            return token
        row = self._records.every()[kind]
        raise PreconditionError(
            f"the {kind} token was shown when it was made ({row.created}); it is not kept",
            hint=f"`fnbuild dashboard token --new{' --read' if kind == 'read' else ''}` makes"
            " another one, which ends that one",
        )

    def _refuse_outside(self, kind: Kind) -> None:
        if kind in self._outside:
            raise PreconditionError(
                f"the {kind} token is given by {VARIABLES[kind]}", hint="look or change it there"
            )

    def session(self, role: Role) -> str:
        """The cookie's value for somebody with a token of that role."""
        ends = int(time.time()) + SESSION_SECONDS
        kind = _kind(role)
        key = self._session_key(kind, self._digests()[kind])
        return f"{role}.{ends}.{_signature(key, role, ends)}"

    def role_in(self, session: str) -> Role:
        """The role that a session's cookie holds, `none` for one that is forged or over."""
        word, _, rest = session.partition(".")
        ends, _, signature = rest.partition(".")
        if word not in VARIABLES or not ends.isdecimal() or len(ends) > 12:
            return "none"
        kind = _kind(word)
        digest = self._digests().get(kind)
        if digest is None or int(ends) < time.time():
            return "none"
        wanted = _signature(self._session_key(kind, digest), kind, int(ends))
        return kind if hmac.compare_digest(signature.encode(), wanted.encode()) else "none"

    def _session_key(self, kind: Kind, digest: str) -> bytes:
        """The key for sessions of a token, which nothing in the database tells."""
        if kind in self._signing:
            return self._signing[kind]
        if self._file_key is None:
            self._file_key = session_key(self._store.path.parent)
        return hmac.digest(self._file_key, digest.encode(), "sha256")

    def _digests(self) -> dict[Kind, str]:
        recorded = {_kind(role): row.digest for role, row in self._records.every().items()}
        return {**recorded, **self._outside}


class Attempts:
    """Wrong tokens by peer: ten a minute, then the next is told to wait."""

    def __init__(self) -> None:
        self._failed: dict[str, deque[float]] = {}

    def wait(self, peer: str) -> int:
        """Seconds until the peer may try again, 0 when it may now."""
        failed = self._failed.get(peer)
        if failed is None or len(failed) < _ATTEMPTS:
            return 0
        left = failed[0] + _ATTEMPTS_SECONDS - time.monotonic()
        return max(0, int(left) + 1) if left > 0 else 0

    def failed(self, peer: str) -> None:
        """Remember a wrong token."""
        if len(self._failed) >= _PEERS and peer not in self._failed:
            del self._failed[next(iter(self._failed))]
        self._failed.setdefault(peer, deque(maxlen=_ATTEMPTS)).append(time.monotonic())


def presented(headers: Headers) -> list[str]:
    """The tokens that a request carries, wherever its client puts them.

    `Authorization: Bearer` and the password of `Basic`; the cookie `session` of nuclio-jupyter
    (nuclio/auth.py), a JSON object with the token as `sid` behind `j:`, percent-encoded or not.
    """
    found = []
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(value.strip())
    elif scheme.lower() == "basic" and value.strip() != _MLRUN:
        found.append(_password(value))
    found.append(_sid(cookie(headers, "session")))
    return [token for token in found if token]


def cookie(headers: Headers, name: str) -> str:
    """The cookie's value, "" when there is none."""
    for header in headers.getlist("cookie"):
        for part in _cookies(header):
            key, _, value = part.partition("=")
            if key.strip() == name:
                return value.strip()
    return ""


def _cookies(header: str) -> list[str]:
    # A JSON object has no semicolon outside of strings, and tokens have none at all.
    return header.split(";")


def _password(value: str) -> str:
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]


def _sid(value: str) -> str:
    text = _unquoted(value)
    try:
        given = json.loads(text.removeprefix("j:"))
    except (ValueError, RecursionError):
        return ""
    sid = given.get("sid") if isinstance(given, dict) else None
    return sid if isinstance(sid, str) else ""


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            parsed = SimpleCookie(f"session={value}").get("session")
        except CookieError:
            return ""
        value = parsed.value if parsed else value
    return unquote(value)


def from_outside(kind: Kind) -> str:
    """The token of the environment or of the file that it names, "" when there is none."""
    variable = VARIABLES[kind]
    if token := os.environ.get(variable, "").strip():
        return _unguessable(token, variable)
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
    return _unguessable(token, f"{variable}_FILE: {name}")


def _unguessable(token: str, place: str) -> str:
    if len(token) < _SHORTEST:
        raise InputError(
            f"{place}: a token of {len(token)} characters can be guessed",
            hint=f"{_SHORTEST} at least, as `openssl rand -hex 32` makes them",
        )
    return token


def _kind(role: str) -> Kind:
    return "write" if role == "write" else "read"


def _new() -> str:
    return secrets.token_urlsafe(32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _derived(token: bytes) -> bytes:
    """A signing key from a token, which cannot be had from the token's digest."""
    return hmac.digest(token, b"fnbuild session key", "sha256")


def _signature(key: bytes, role: str, ends: int) -> str:
    message = f"fnbuild session {role} {ends}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()
