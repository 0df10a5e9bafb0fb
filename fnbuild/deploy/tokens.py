"""The bearer tokens of a function: created, listed and revoked by a change of its configuration.

Only the digest of a token is stored. Each change is a new revision, from the recorded code.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from fnbuild.deploy import pipeline
from fnbuild.errors import ConflictError, InputError, NotFoundError, PreconditionError
from fnbuild.function.access_settings import (
    authentication_mode,
    authentication_part,
    is_open,
    with_authentication,
)
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import NO_OPTIONS, Deployment, Platform, Progress
from fnbuild.runtime.access.credentials import digest_of
from fnbuild.runtime.access.settings import format_time, get_key, parse_time

_PREFIX = "fnbuild_"
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it is stored; times are texts, "" for an unknown or missing one."""

    name: str
    created: str
    expires: str

    @property
    def expired(self) -> bool:
        return bool(self.expires) and parse_time(self.expires) <= time.time()


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token, which is not stored, and the function that accepts it."""

    token: str
    name: str
    deployment: Deployment


def list_tokens(function: Function) -> list[StoredToken]:
    """Return the tokens of a function in the order of their creation."""
    return [
        StoredToken(*(str(get_key(entry, key)[1] or "") for key in ("name", "created", "expires")))
        for entry in _entries(function)
    ]


def create_token(
    platform: Platform, current: Deployment, name: str, seconds: float | None, progress: Progress
) -> CreatedToken:
    """Add a token that ends after `seconds`, if given. A function without authentication gets it.

    `name` is "" for a free one. Raises `ConflictError` if it is taken.
    """
    function = current.function
    _check_function(platform, function)
    names = {token.name for token in list_tokens(function)}
    if name in names:
        raise ConflictError(
            f"{current.name} has a token {name} already",
            hint=f"`fnbuild token revoke {current.name} {name}` removes it",
        )
    name = name or next(f"token-{n}" for n in range(1, 10_000) if f"token-{n}" not in names)
    token = _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    now = time.time()
    entry = {"name": name, "sha256": digest_of(token), "created": format_time(now)}
    if seconds is not None:
        entry["expires"] = format_time(now + seconds)
    changed = _with_entries(function, [*_entries(function), entry])
    deployed = pipeline.reconfigure(platform, current, changed, NO_OPTIONS, progress)
    return CreatedToken(token, name, deployed)


def revoke_token(
    platform: Platform, current: Deployment, name: str, progress: Progress
) -> Deployment:
    """Remove a token; the function still asks for credentials. Raises `NotFoundError`."""
    entries = _entries(current.function)
    kept = [entry for entry in entries if get_key(entry, "name")[1] != name]
    if len(kept) == len(entries):
        names = ", ".join(token.name for token in list_tokens(current.function))
        raise NotFoundError(f"{current.name} has no token {name}", hint=f"it has {names or 'none'}")
    changed = _with_entries(current.function, kept)
    return pipeline.reconfigure(platform, current, changed, NO_OPTIONS, progress)


def _check_function(platform: Platform, function: Function) -> None:
    name = function.metadata.name
    if platform.authentication != "served":
        raise InputError(
            f"functions of the platform {platform.name} have no tokens of fnbuild",
            hint="docs/security.md says what protects functions there",
        )
    if function.http_trigger() is None:
        raise InputError(f"{name} has no http trigger, so no client can call it")
    if is_open(function):
        raise PreconditionError(
            f"{name} is declared to be open", hint="deploy it again without `--open`"
        )


def _entries(function: Function) -> list[Any]:
    entries = authentication_part(function, "tokens")
    return entries if isinstance(entries, list) else []


def _with_entries(function: Function, entries: list[Any]) -> Function:
    mode = authentication_mode(function)
    parts: Raw = {name: authentication_part(function, name) for name in ("basicAuth", "jwt")}
    return with_authentication(
        function, "api" if mode == "none" else mode, {**parts, "tokens": entries}
    )
