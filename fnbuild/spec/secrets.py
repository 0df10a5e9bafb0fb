"""Which values of a configuration are secrets; what leaves this machine is without them."""

from __future__ import annotations

import re
from typing import Any

from fnbuild.spec.types import Raw

OF_TRIGGERS = ("password", "secret")
OF_CODE = (
    "username", "password", "headers", "s3accesskeyid", "s3secretaccesskey", "s3sessiontoken",
)  # fmt: skip
# Of brokers and streams, at any depth; Nuclio's list is in pkg/platformconfig/types.go.
OF_ATTRIBUTES = (
    "password", "secret", "clientsecret", "accesskey", "accesskeyid", "accesscertificate",
    "secretaccesskey", "sharedaccesskeyvalue", "credentials",
)  # fmt: skip
"""Names of keys, in lower case."""

OWN_KINDS = ("http", "cron")
"""Kinds of triggers whose attributes are the function's own affair, such as what a clock sends."""

_VARIABLE = re.compile(
    r"passw(or)?d|passphrase|secret|credential|(^|_)token$|(api|access|private|account|auth)_?key",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def without_secrets(raw: Raw) -> Raw:
    """A function's plain JSON values, without passwords of triggers and of where its code is.

    Environment variables stay: a function cannot run without them.
    """
    spec = dict(raw.get("spec") or {})
    if triggers := spec.get("triggers"):
        spec["triggers"] = {name: _trigger(one) for name, one in triggers.items()}
    if build := spec.get("build"):
        build = dict(build)
        if build.get("codeEntryAttributes"):
            build["codeEntryAttributes"] = _less(build["codeEntryAttributes"], OF_CODE)
        if build.get("path"):
            build["path"] = without_credentials(build["path"])
        spec["build"] = build
    return {**raw, "spec": spec} if "spec" in raw else dict(raw)


def looks_secret(variable: str) -> bool:
    """Whether an environment variable of that name holds a secret, as far as a name can tell."""
    return _VARIABLE.search(variable) is not None


def without_credentials(url: str) -> str:
    """An address without the user's name and password in it."""
    return _CREDENTIALS.sub("", url)


def _trigger(given: Raw) -> Raw:
    trigger = _less(given, OF_TRIGGERS)
    if trigger.get("url"):
        trigger["url"] = without_credentials(trigger["url"])
    if trigger.get("attributes") and trigger.get("kind") not in OWN_KINDS:
        trigger["attributes"] = _deeply(trigger["attributes"])
    return trigger


def _deeply(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _deeply(one) for name, one in _less(value, OF_ATTRIBUTES).items()}
    return value


def _less(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.lower() not in names}
