"""Hashes of passwords, as text: `pbkdf2-sha256$ITERATIONS$SALT$KEY`.

Not every build of the Pythons that run processors has scrypt.
"""

import base64
import hashlib
import hmac
import os
from typing import Tuple

_KIND = "pbkdf2-sha256"
# About 0.2 s.
_ITERATIONS = 600 * 1000
_MAX_ITERATIONS = 10 * 1000 * 1000
_KEY_BYTES = 32
_SALT_BYTES = 16


class PasswordHashError(ValueError):
    """The text is no hash of a password."""


def hash_password(password: str) -> str:
    """Return a new hash of a password."""
    salt = os.urandom(_SALT_BYTES)
    key = _derive(password, salt, _ITERATIONS)
    return "$".join([_KIND, str(_ITERATIONS), _encode(salt), _encode(key)])


def check_hash(text: str) -> None:
    """Raise PasswordHashError if `verify_password` cannot use the hash."""
    _parse(text)


def verify_password(password: str, text: str) -> bool:
    """Return True if the password has this hash. Takes as long as the hash demands."""
    iterations, salt, key = _parse(text)
    return hmac.compare_digest(_derive(password, salt, iterations), key)


def _parse(text: str) -> Tuple[int, bytes, bytes]:
    kind, _, rest = text.partition("$")
    try:
        iterations, salt, key = rest.split("$")
        parsed = int(iterations), _decode(salt), _decode(key)
    except ValueError:
        raise PasswordHashError("it is not a hash of a password") from None
    if kind != _KIND or len(parsed[2]) != _KEY_BYTES or not 1 <= parsed[0] <= _MAX_ITERATIONS:
        raise PasswordHashError("it is not a hash of a password")
    return parsed


def _derive(password: str, salt: bytes, iterations: int) -> bytes:
    data = password.encode("utf-8", "surrogateescape")
    return hashlib.pbkdf2_hmac("sha256", data, salt, iterations, _KEY_BYTES)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), validate=True)
