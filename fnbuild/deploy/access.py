"""The credentials of a function that is deployed.

Passwords and secrets leave the attributes of the http trigger: a password becomes a hash, and all
of them, with a token for fnbuild's own requests, one secret variable, which platforms keep like
every other secret. Tokens that `fnbuild token` made stay when the function is deployed from its
folder.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection

from fnbuild.errors import InputError
from fnbuild.function.access_settings import (
    authentication_mode,
    authentication_part,
    is_open,
    with_authentication,
)
from fnbuild.function.secrets import REDACTED
from fnbuild.function.types import EnvVar, Function, Raw
from fnbuild.platforms import Deployment, Platform
from fnbuild.platforms.access import own_credentials
from fnbuild.runtime.access.credentials import VARIABLE
from fnbuild.runtime.access.passwords import PasswordHashError, hash_password, verify_password
from fnbuild.runtime.access.settings import get_key

PASSWORD_VARIABLE = "FNBUILD_BASIC_AUTH_PASSWORD"  # noqa: S105 - names of variables
SECRET_VARIABLE = "FNBUILD_JWT_SECRET"  # noqa: S105
_VARIABLES = (VARIABLE, PASSWORD_VARIABLE, SECRET_VARIABLE)
_TOKEN_BYTES = 32


def with_credentials(
    platform: Platform,
    function: Function,
    current: Deployment | None,
    *,
    keep_tokens: bool = False,
) -> Function:
    """Return the function with its credentials as platforms take them.

    `keep_tokens` adds the tokens of the deployed function. Raises `InputError` for authentication
    that the platform does not have, or without a password or keys.
    """
    if platform.authentication == "passed-on" or function.http_trigger() is None:
        return function
    if keep_tokens and current is not None and not is_open(function):
        function = _with_tokens_of(function, current.function)
    mode = authentication_mode(function)
    if mode == "none":
        return _without_variables(function)
    _require_support(platform, function, mode)
    stored = own_credentials(platform, function)
    if not stored and current is not None:
        stored = own_credentials(platform, current.function, current)
    credentials = {"token": stored.get("token") or secrets.token_urlsafe(_TOKEN_BYTES)}
    basic, jwt = (authentication_part(function, name) for name in ("basicAuth", "jwt"))
    if mode == "basicAuth":
        password = _given_value(function, basic, "password", PASSWORD_VARIABLE)
        credentials["password"] = _password_hash(password, stored.get("password", ""))
    if jwt is not None and not (get_key(jwt, "jwksFile")[1] or get_key(jwt, "jwksURL")[1]):
        secret = _given_value(function, jwt, "secret", SECRET_VARIABLE) or stored.get("secret")
        credentials["secret"] = _require_secret(secret)
    parts = {
        "basicAuth": _without_key(basic, "password"),
        "tokens": authentication_part(function, "tokens"),
        "jwt": _without_key(jwt, "secret"),
    }
    return _with_variable(with_authentication(function, mode, parts), credentials)


def without_masked_credentials(function: Function) -> Function:
    """Return the function without the variable if its value is only a mask, as in exports."""
    masked = any(item.name == VARIABLE and item.value == REDACTED for item in function.spec.env)
    return _without_variables(function, (VARIABLE,)) if masked else function


def without_credential_variables(function: Function) -> Function:
    """Return the function without the variables that bring a password or a secret once."""
    return _without_variables(function, (PASSWORD_VARIABLE, SECRET_VARIABLE))


def _require_support(platform: Platform, function: Function, mode: str) -> None:
    if platform.authentication == "absent" or not platform.runs_code(function):
        raise InputError(
            f"authenticationMode {mode} has no effect on the platform {platform.name}, so everybody"
            " could call the function",
            hint="leave it out; docs/security.md says what protects functions there",
        )
    if mode == "browser":
        raise InputError(
            f"authenticationMode browser needs a sign-in page, which the platform {platform.name}"
            " does not have",
            hint="`basicAuth` makes browsers ask for a password; `api` accepts tokens",
        )


def _with_tokens_of(function: Function, deployed: Function) -> Function:
    """Return the function with the tokens of the deployed one; a function with tokens is closed."""
    tokens = authentication_part(deployed, "tokens") or []
    if deployed.http_trigger() is None or not tokens:
        return function
    own = authentication_part(function, "tokens") or []
    names = {get_key(token, "name")[1] for token in own}
    parts: Raw = {name: authentication_part(function, name) for name in ("basicAuth", "jwt")}
    parts["tokens"] = [*own, *(t for t in tokens if get_key(t, "name")[1] not in names)]
    mode = authentication_mode(function)
    return with_authentication(function, "api" if mode == "none" else mode, parts)


def _given_value(function: Function, part: object, key: str, variable: str) -> str:
    """Return a secret value from the attributes or from a variable, "" without one."""
    value = get_key(part, key)[1]
    named = (item.value for item in function.spec.env if item.name == variable)
    return str(value or next(named, ""))


def _password_hash(password: str, stored: str) -> str:
    """Return the stored hash if it is that of the password, so that nothing has changed."""
    if password:
        try:
            if stored and verify_password(password, stored):
                return stored
        except PasswordHashError:
            pass
        return hash_password(password)
    if not stored:
        raise InputError(
            "authenticationMode basicAuth has no password",
            hint=f"`--secret-env {PASSWORD_VARIABLE}=…` sets it, or `password` of basicAuth",
        )
    return stored


def _require_secret(secret: str | None) -> str:
    if not secret:
        raise InputError(
            "the authentication by jwt has no keys",
            hint=f"set jwksURL or jwksFile, or a secret: `--secret-env {SECRET_VARIABLE}=…`",
        )
    return secret


def _without_key(part: object, key: str) -> Raw | None:
    if not isinstance(part, dict):
        return None
    return {name: value for name, value in part.items() if str(name).lower() != key}


def _with_variable(function: Function, credentials: Raw) -> Function:
    text = json.dumps(credentials, sort_keys=True)
    others = _without_variables(function).spec.env
    return function.with_spec(env=[*others, EnvVar(name=VARIABLE, value=text)])


def _without_variables(function: Function, names: Collection[str] = _VARIABLES) -> Function:
    kept = [variable for variable in function.spec.env if variable.name not in names]
    return function if len(kept) == len(function.spec.env) else function.with_spec(env=kept)
