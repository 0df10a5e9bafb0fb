"""Verification of JSON Web Tokens (RFC 7519) in their compact form.

A token needs an expiry time. Encrypted tokens, `none` and critical extensions are refused. A key
is used only with the algorithms of its type, and with its own one if it names one, so that a public
key never serves as the secret of an HMAC.
"""

import json
import time
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from .key_sets import KeySet, decode_segment
from .signatures import ALGORITHMS, verify

_MAX_TOKEN = 16 * 1024
_DEFAULT_LEEWAY = 30.0


class TokenError(Exception):
    """The token is refused; the message is for its bearer."""


class MissingClaimError(TokenError):
    """The token is valid, and not sufficient."""


class TokenRules(NamedTuple):
    """The claims that a token must have, and the algorithms that may sign it.

    `audience`: a token with an audience must have one of these. `claims` are further ones with
    their values; a list or a text with spaces has the value as an item. `leeway` is in seconds.
    """

    issuer: str = ""
    audience: Sequence[str] = ()
    algorithms: Sequence[str] = tuple(ALGORITHMS)
    claims: Sequence[Tuple[str, str]] = ()
    leeway: float = _DEFAULT_LEEWAY


class WebToken(NamedTuple):
    """A valid token: its claims, and the Unix time until which it stays valid."""

    claims: Dict[str, Any]
    expires: float


def verify_token(text: str, keys: KeySet, rules: TokenRules) -> WebToken:
    """Return a valid token. Raises TokenError, and KeySetError if there are no keys."""
    parts = text.split(".")
    if len(parts) != 3 or len(text) > _MAX_TOKEN:
        raise TokenError("it is not a JSON Web Token")
    try:
        header, claims = (json.loads(decode_segment(part).decode("utf-8")) for part in parts[:2])
        signature = decode_segment(parts[2])
    except (ValueError, RecursionError):
        raise TokenError("it is not a JSON Web Token") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise TokenError("it is not a JSON Web Token")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms:
        raise TokenError("its algorithm is not one of %s" % ", ".join(rules.algorithms))
    if "crit" in header:
        raise TokenError("it has extensions that are not supported")
    data = ("%s.%s" % (parts[0], parts[1])).encode("ascii")
    if not _is_signed(keys, header.get("kid"), algorithm, data, signature):
        raise TokenError("its signature is of no known key")
    expires = _check_times(claims, rules.leeway)
    _check_claims(claims, rules)
    return WebToken(claims, expires)


def _is_signed(
    keys: KeySet, identifier: Any, algorithm: str, data: bytes, signature: bytes
) -> bool:
    kind = ALGORITHMS[algorithm].key_type
    candidates = keys.find(identifier if isinstance(identifier, str) else "")
    return any(
        isinstance(candidate.key, kind)
        and candidate.algorithm in ("", algorithm)
        and verify(algorithm, candidate.key, data, signature)
        for candidate in candidates
    )


def _check_times(claims: Dict[str, Any], leeway: float) -> float:
    now = time.time()
    expires, begins, issued = (_time_of(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise TokenError("it has no expiry time (exp)")
    if expires + leeway <= now:
        raise TokenError("it has expired")
    for moment in (begins, issued):
        if moment is not None and moment - leeway > now:
            raise TokenError("it is not valid yet")
    return expires + leeway


def _time_of(claims: Dict[str, Any], name: str) -> Optional[float]:
    value = claims.get(name)
    if value is None:
        return None
    # NaN compares as False with everything, infinity never expires.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        raise TokenError("its %s is not a time" % name)
    return float(value)


def _check_claims(claims: Dict[str, Any], rules: TokenRules) -> None:
    if rules.issuer and claims.get("iss") != rules.issuer:
        raise TokenError("it is of another issuer")
    audience = claims.get("aud")
    if rules.audience or audience is not None:
        # RFC 7519, 4.1.3: a token for others must be refused, also if no audience is configured.
        audiences = audience if isinstance(audience, list) else [audience]
        if not any(item in rules.audience for item in audiences if isinstance(item, str)):
            raise TokenError("it is for another audience")
    for name, expected in rules.claims:
        if not _has_value(claims.get(name), expected):
            raise MissingClaimError("it lacks the claim %s: %s" % (name, expected))


def _has_value(value: Any, expected: str) -> bool:
    if isinstance(value, list):
        return any(_has_value(item, expected) for item in value if not isinstance(item, list))
    if isinstance(value, bool):
        return expected == ("true" if value else "false")
    if isinstance(value, str):
        return value == expected or expected in value.split()
    return value is not None and not isinstance(value, dict) and str(value) == expected
