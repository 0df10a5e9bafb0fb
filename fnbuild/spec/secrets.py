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
    r"passw(or)?d|passphrase|secret|credential|authorization|token"
    r"|(^|_|pg|db)pass(_|$)|(^|_)p(wd|at)(_|$)"
    r"|(api|access|private|account|auth|signing|encryption|ssh)[_-]?key",
    re.IGNORECASE,
)
# Words of language models, which count tokens.
_NO_TOKENS = re.compile(
    r"tokeni[sz]|(^|_)(max|min|num|n|total)[a-z_]*tokens(?=_|$)"
    r"|tokens?_?(per|limit|count|length|size)(?=_|$)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"(name|ref|url|uri|file|path)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
# A password may have a slash that nobody wrote as %2F.
_ANY_CREDENTIALS = re.compile(r"(?<=://)(?:[^/@\s]*:[^@\s]*@(?:[^@\s]*@)*|[^/@\s]+@)")
_QUERY = re.compile(r"(?<=[?&])([^=&#\s]*=)?[^&#\s]*")


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


def for_readers(raw: Raw) -> Raw:
    """`without_secrets`, and without those that a function needs to run: what triggers send, what
    drivers and other runtimes are told, and the query of the address of its code.

    Environment variables stay.
    """
    raw = without_secrets(raw)
    spec = raw.get("spec")
    if not spec:
        return raw
    for key in ("dataBindings", "runtimeAttributes", "platform"):
        if spec.get(key):
            spec[key] = _readable(spec[key])
    if spec.get("triggers"):
        spec["triggers"] = {name: _for_readers(one) for name, one in spec["triggers"].items()}
    if spec.get("volumes"):
        spec["volumes"] = [_of_driver(one) for one in spec["volumes"]]
    if build := spec.get("build"):
        if build.get("path"):
            build["path"] = _address(build["path"])
        if build.get("runtimeAttributes"):
            build["runtimeAttributes"] = _readable(build["runtimeAttributes"])
    return raw


def looks_secret(variable: str) -> bool:
    """Whether an environment variable of that name holds a secret, as far as a name can tell."""
    return _VARIABLE.search(_NO_TOKENS.sub("_", variable)) is not None


def has_credentials(value: str) -> bool:
    """Whether there is an address with a user's name or password in it."""
    return _ANY_CREDENTIALS.search(value) is not None


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
    if isinstance(value, list):
        return [_deeply(one) for one in value]
    return without_credentials(value) if isinstance(value, str) else value


def _for_readers(trigger: Raw) -> Raw:
    trigger = dict(trigger)
    if trigger.get("url"):
        trigger["url"] = _ANY_CREDENTIALS.sub("", trigger["url"])
    if trigger.get("attributes"):
        trigger["attributes"] = _readable(trigger["attributes"])
    return trigger


def _of_driver(given: Raw) -> Raw:
    """A volume; Kubernetes' own kinds only refer to secrets."""
    volume = given.get("volume")
    if not isinstance(volume, dict):
        return given
    drivers = {key: _readable(volume[key]) for key in ("flexVolume", "csi") if key in volume}
    return {**given, "volume": {**volume, **drivers}}


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _readable(one) for name, one in value.items() if not _hidden(name, one)}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return _ANY_CREDENTIALS.sub("", value) if isinstance(value, str) else value


def _hidden(name: str, value: Any) -> bool:
    if isinstance(value, bool) or _REFERENCE.search(name):
        return False
    return name.lower() in OF_ATTRIBUTES or name.lower() == "cookie" or looks_secret(name)


def _address(url: str) -> str:
    """The address of code without user, password and the values of its query."""
    base, mark, rest = _ANY_CREDENTIALS.sub("", url).partition("?")
    return base + _QUERY.sub(r"\1…", mark + rest) if mark else base


def _less(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.lower() not in names}
