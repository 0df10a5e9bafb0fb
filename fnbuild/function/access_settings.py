"""Access to a function: authentication of its http trigger, and annotations for open functions."""

from __future__ import annotations

from typing import Any

import msgspec

from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.runtime.access.settings import ATTRIBUTES, SECRET_KEYS, get_key

OPEN_ANNOTATION = "fnbuild.io/open"
"""States that everybody may call the function: no credentials, and no checks of Host and Origin."""

HOSTS_ANNOTATION = "fnbuild.io/allowed-hosts"
"""Names, separated by commas, by which clients may call a function on a loopback port."""


def authentication_mode(function: Function) -> str:
    """Return the mode of the http trigger, `none` without one."""
    trigger = function.http_trigger()
    mode = get_key(trigger[1].attributes, "authenticationMode")[1] if trigger else None
    return str(mode or "none")


def authentication_part(function: Function, name: str) -> Any:
    """Return `basicAuth`, `tokens` or `jwt` of the http trigger, None without it."""
    trigger = function.http_trigger()
    attributes = trigger[1].attributes if trigger else {}
    return get_key(get_key(attributes, "authentication")[1], name)[1]


def is_open(function: Function) -> bool:
    """Return True if the function is declared to be open."""
    return function.metadata.annotations.get(OPEN_ANNOTATION, "").lower() == "true"


def allowed_names(function: Function) -> list[str]:
    """Return the names of the annotation."""
    names = function.metadata.annotations.get(HOSTS_ANNOTATION, "").split(",")
    return [name.strip() for name in names if name.strip()]


def with_authentication(function: Function, mode: str, parts: Raw) -> Function:
    """Return the function with this authentication of its http trigger, without empty parts."""
    trigger = function.http_trigger()
    assert trigger is not None
    name, settings = trigger
    names = {attribute.lower() for attribute in ATTRIBUTES}
    attributes = {k: v for k, v in settings.attributes.items() if k.lower() not in names}
    if mode != "none":
        attributes["authenticationMode"] = mode
    if kept := {key: value for key, value in parts.items() if value}:
        attributes["authentication"] = kept
    changed: Trigger = msgspec.structs.replace(settings, attributes=attributes)
    return function.with_spec(triggers={**function.spec.triggers, name: changed})


def without_access_secrets(attributes: Raw) -> Raw:
    """Return the attributes of an http trigger without passwords and secrets of authentication."""
    key, authentication = get_key(attributes, "authentication")
    if not isinstance(authentication, dict):
        return attributes
    parts = {
        name: {k: v for k, v in part.items() if str(k).lower() not in SECRET_KEYS}
        if isinstance(part, dict)
        else part
        for name, part in authentication.items()
    }
    return {**attributes, key: parts}
