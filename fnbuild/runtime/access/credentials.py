"""The secret part of a function's access settings.

It is JSON in an environment variable, which platforms keep like every other secret:

    {"token": "…" | "token_sha256": "…",   of requests that fnbuild itself sends
     "password": "pbkdf2-sha256$…",        the hash of the password for basic authentication
     "secret": "…"}                        that signs JSON Web Tokens
"""

import hashlib
import json
import os
from typing import Dict, MutableMapping, NamedTuple

VARIABLE = "FNBUILD_ACCESS_CREDENTIALS"
TOKEN_HEADER = "X-Fnbuild-Access"  # noqa: S105 - the name of a header
"""The header with fnbuild's own token, so that `Authorization` remains the client's."""


class Credentials(NamedTuple):
    """The credentials of a function; "" for those that it does not have."""

    token_digest: str = ""
    password_hash: str = ""
    secret: str = ""


def parse_credentials(text: str) -> Credentials:
    """Return the credentials in the variable's value; raise ValueError if it is invalid."""
    values = read_values(text)
    if text and not values:
        raise ValueError("%s is not a JSON object with credentials" % VARIABLE)
    token = values.get("token", "")
    digest = digest_of(token) if token else values.get("token_sha256", "")
    return Credentials(digest, values.get("password", ""), values.get("secret", ""))


def read_values(text: str) -> Dict[str, str]:
    """Return the object in the variable's value, empty if it is none."""
    try:
        values = json.loads(text)
    except ValueError:
        return {}
    is_object = isinstance(values, dict)
    return {str(key): str(value) for key, value in values.items()} if is_object else {}


def at_rest(text: str) -> str:
    """Return the variable's value with the token's digest in place of the token."""
    values = read_values(text)
    token = values.pop("token", "")
    return json.dumps(dict(values, token_sha256=digest_of(token))) if token else text


def take_credentials(env: MutableMapping[str, str]) -> Credentials:
    """Return the credentials, and remove the variable so that handlers do not have it.

    `env` are the variables of the configuration, which take precedence over the process's own.
    """
    inherited = os.environ.pop(VARIABLE, "")
    return parse_credentials(env.pop(VARIABLE, "") or inherited)


def digest_of(token: str) -> str:
    """Return the digest by which a token of high entropy is stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
