"""Rules on the access to a function: authentication of its http trigger, and annotations."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fnbuild.function import access_settings
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.source_text import quoted
from fnbuild.function.types import FieldPath
from fnbuild.hosts import is_loopback
from fnbuild.runtime.access.settings import access_problems, get_key

_RULE = "authentication"


def check_authentication(context: RuleContext, attributes: dict[str, Any], path: FieldPath) -> None:
    """Check the authentication in the attributes of an http trigger, which are at `path`."""
    problems = access_problems(attributes)
    for problem in problems:
        context.error(_RULE, problem.message, (*path, *problem.path), problem.hint)
    if problems:
        return
    mode_key, mode = get_key(attributes, "authenticationMode")
    key, authentication = get_key(attributes, "authentication")
    if mode in (None, "", "none"):
        if authentication:
            message = "no client is asked for credentials: authenticationMode is none"
            hint = "add `authenticationMode: basicAuth` or `authenticationMode: api`"
            context.warning(_RULE, message, (*path, key), hint, "key")
        return
    if mode == "browser":
        message = "only Nuclio 1.17 and later has the mode browser; other platforms refuse it"
        context.warning(_RULE, message, (*path, mode_key))
    if mode == "basicAuth" and not get_key(authentication, "basicAuth")[1]:
        message = "the mode basicAuth needs a user name and a password"
        hint = "as in `authentication: {basicAuth: {username: cvat, password: …}}`"
        context.error(_RULE, message, (*path, mode_key), hint)
    _check_web_tokens(context, get_key(authentication, "jwt"), (*path, key))


def _check_web_tokens(context: RuleContext, entry: tuple[str, Any], path: FieldPath) -> None:
    key, jwt = entry
    if jwt is None:
        return
    if not any(get_key(jwt, name)[1] for name in ("issuer", "audience", "secret")):
        message = "a token of any issuer that these keys sign, for any purpose, is accepted"
        context.warning(_RULE, message, (*path, key), "add `issuer` and `audience`", "key")
    url_key, url = get_key(jwt, "jwksURL")
    parts = urlsplit(url or "")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        message = f"who can change the answer of {quoted(url)} can sign tokens: it is plain HTTP"
        context.warning(_RULE, message, (*path, key, url_key), "use https")


def check_open_functions(context: RuleContext) -> None:
    """Check that an open function has no authentication."""
    function = context.function
    text = function.metadata.annotations.get(access_settings.OPEN_ANNOTATION, "true")
    path = ("metadata", "annotations", access_settings.OPEN_ANNOTATION)
    if text.lower() not in ("true", "false"):
        context.error("open", f"it is true or false, not {quoted(text)}", path)
    elif access_settings.is_open(function):
        mode = access_settings.authentication_mode(function)
        if mode != "none":
            message = f"an open function asks for no credentials, and its mode is {mode}"
            context.error("open", message, path, "leave out one of them")
