"""Checks the credentials of requests: basic authentication, bearer tokens, JSON Web Tokens.

A bearer token costs a hash and a lookup. Passwords and signatures are checked in a thread, a few at
a time, and equal credentials once; valid ones are then remembered by their digest for some minutes.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Union

from .credentials import TOKEN_HEADER, Credentials, digest_of
from .failures import FailureLimit
from .key_sets import FileKeySet, KeySet, KeySetError, secret_key_set, url_key_set
from .passwords import PasswordHashError, check_hash, verify_password
from .settings import AccessSettings, AccessToken
from .web_tokens import MissingClaimError, TokenError, verify_token

_TOKEN_KEY = TOKEN_HEADER.lower()
# Seconds for which checked credentials are remembered, and their largest number.
_REMEMBERED = 300.0
_MAX_REMEMBERED = 1024
# Credentials that are checked or wait for that, and requests that wait for the result.
_MAX_CHECKS = 16
_MAX_WAITING = 256


class AccessRefusal(NamedTuple):
    """The answer to a refused request. `challenge` is for the header WWW-Authenticate."""

    status: int
    reason: str
    challenge: str = ""
    retry_after: int = 0
    counts: bool = False


# None: access is granted.
Verdict = Optional[AccessRefusal]
OnVerdict = Callable[[Verdict], None]


class Pending:
    """The return value of a check that calls back with the verdict."""


PENDING = Pending()


class Authenticator:
    """The credentials that a function accepts. Raises ValueError for settings that cannot work.

    `folder` is the one of the function's code, for a file with keys.
    """

    def __init__(
        self,
        settings: AccessSettings,
        credentials: Credentials,
        name: str,
        folder: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._tokens: Dict[str, AccessToken] = {token.digest: token for token in settings.tokens}
        self._own_digest = credentials.token_digest
        self._username = settings.username
        self._password_hash = credentials.password_hash if settings.mode == "basicAuth" else ""
        self._rules = settings.web_tokens
        self._keys = _key_set(settings, credentials, folder) if self._rules else None
        if settings.mode == "basicAuth":
            self._check_password_hash()
        realm = name.replace("\\", "").replace('"', "")
        kind = "Basic" if settings.mode == "basicAuth" else "Bearer"
        self._challenge = '%s realm="%s"' % (kind, realm)
        self._remembered: "OrderedDict[bytes, float]" = OrderedDict()
        self._checks: Dict[bytes, List[OnVerdict]] = {}
        self._waiting = 0
        self._failures = FailureLimit()
        self._executor: Optional[ThreadPoolExecutor] = None
        self._loop = loop

    def _check_password_hash(self) -> None:
        if not self._username or not self._password_hash:
            raise ValueError("basicAuth has no username or no password")
        try:
            check_hash(self._password_hash)
        except PasswordHashError as problem:
            raise ValueError("the hash of the password: %s" % problem) from None

    def check(
        self, headers: Mapping[str, str], client: Callable[[], str], on_verdict: OnVerdict
    ) -> Union[Verdict, Pending]:
        """Return the verdict on a request, or PENDING and call `on_verdict` later.

        `client` returns the address of the client.
        """
        own = headers.get(_TOKEN_KEY)
        if own is not None and self._is_own(own):
            return None
        authorization = headers.get("authorization")
        if authorization is None:
            return self._refusal("it needs credentials: `Authorization` has none")
        scheme, _, value = authorization.partition(" ")
        scheme, value = scheme.lower(), value.strip()
        if scheme == "bearer":
            token = self._tokens.get(digest_of(value))
            if token is not None:
                return self._check_token(token, client)
            if self._keys is not None and value.count(".") == 2:
                return self._check_once(value, self._check_web_token, client(), on_verdict)
        elif scheme == "basic" and self._password_hash:
            return self._check_once(value, self._check_password, client(), on_verdict)
        return self._failure(client(), "the credentials are unknown, or of another kind")

    def _check_token(self, token: AccessToken, client: Callable[[], str]) -> Verdict:
        if token.expires is None or token.expires > time.time():
            return None
        return self._failure(client(), "the token %s has expired" % token.name)

    def _is_own(self, token: str) -> bool:
        digest = self._own_digest
        return bool(digest) and hmac.compare_digest(digest_of(token), digest)

    # Refusals.

    def _refusal(self, reason: str, counts: bool = False) -> AccessRefusal:
        challenge = self._challenge
        if counts and challenge.startswith("Bearer"):
            challenge += ', error="invalid_token"'
        return AccessRefusal(401, reason, challenge, counts=counts)

    def _failure(self, client: str, reason: str) -> AccessRefusal:
        """Return the refusal of wrong credentials, and count it."""
        return self._wait(client) or self._count(client, self._refusal(reason, counts=True))

    def _wait(self, client: str) -> Verdict:
        seconds = self._failures.seconds_to_wait(client)
        if not seconds:
            return None
        reason = "too many requests with wrong credentials came from this address"
        return AccessRefusal(429, reason, retry_after=seconds)

    def _count(self, client: str, refusal: AccessRefusal) -> AccessRefusal:
        self._failures.add(client)
        return refusal

    # Checks that take time.

    def _check_once(
        self,
        value: str,
        check: Callable[[str], Union[float, AccessRefusal]],
        client: str,
        on_verdict: OnVerdict,
    ) -> Union[Verdict, Pending]:
        """Check credentials in a thread unless they are remembered."""
        digest = hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
        until = self._remembered.get(digest)
        if until is not None:
            if until > time.monotonic():
                return None
            del self._remembered[digest]
        waiting = self._checks.get(digest)
        if waiting is None:
            refusal = self._wait(client)
            if refusal is not None:
                return refusal
        if self._waiting >= _MAX_WAITING or (waiting is None and len(self._checks) >= _MAX_CHECKS):
            return AccessRefusal(503, "too many credentials are being checked", retry_after=1)
        self._waiting += 1
        if waiting is not None:
            waiting.append(on_verdict)
            return PENDING
        self._checks[digest] = [on_verdict]
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1)
        future = self._loop.run_in_executor(self._executor, check, value)
        future.add_done_callback(partial(self._on_checked, digest, client))
        return PENDING

    def _on_checked(self, digest: bytes, client: str, future: "asyncio.Future[Any]") -> None:
        waiting = self._checks.pop(digest)
        self._waiting -= len(waiting)
        if future.cancelled():
            return
        error = future.exception()
        result: Any = AccessRefusal(500, "the credentials could not be checked")
        if error is None:
            result = future.result()
        verdict: Verdict = None
        if isinstance(result, AccessRefusal):
            verdict = self._count(client, result) if result.counts else result
        else:
            self._remember(digest, result)
        for on_verdict in waiting:
            on_verdict(verdict)

    def _remember(self, digest: bytes, seconds: float) -> None:
        while len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        self._remembered[digest] = time.monotonic() + seconds

    def _check_password(self, value: str) -> Union[float, AccessRefusal]:
        """Return the seconds for which the credentials may be remembered, or the refusal."""
        try:
            username, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return self._refusal("the credentials are not base64", counts=True)
        # The password is checked for a wrong user name, too, which takes the same time.
        is_right = verify_password(password, self._password_hash)
        if hmac.compare_digest(username.encode(), self._username.encode()) and is_right:
            return _REMEMBERED
        return self._refusal("the user name or the password is wrong", counts=True)

    def _check_web_token(self, text: str) -> Union[float, AccessRefusal]:
        """Return the seconds for which the token may be remembered, or the refusal."""
        assert self._keys is not None
        assert self._rules is not None
        try:
            token = verify_token(text, self._keys, self._rules)
        except MissingClaimError as problem:
            challenge = self._challenge + ', error="insufficient_scope"'
            return AccessRefusal(403, "the token: %s" % problem, challenge)
        except TokenError as problem:
            return self._refusal("the token: %s" % problem, counts=True)
        except KeySetError as problem:
            return AccessRefusal(503, str(problem), retry_after=5)
        return min(_REMEMBERED, token.expires - time.time())


def _key_set(settings: AccessSettings, credentials: Credentials, folder: str) -> KeySet:
    """Return the keys for JSON Web Tokens; raise ValueError without a source."""
    if settings.key_url:
        return url_key_set(settings.key_url)
    if settings.key_file:
        return FileKeySet(os.path.join(folder, settings.key_file))
    if credentials.secret:
        return secret_key_set(credentials.secret)
    raise ValueError("jwt names no keys: jwksFile, jwksURL or secret")
