"""Which values of a configuration are secrets; what leaves this machine is without them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from fnbuild.errors import UsageError
from fnbuild.spec import sensitive
from fnbuild.spec.sensitive import looks_secret, marked
from fnbuild.spec.types import Raw

REDACTED = "[redacted]"
"""Stands for a value that is not shown."""

OF_TRIGGERS = ("password", "secret")
OF_CODE = (
    "username", "password", "headers", "s3accesskeyid", "s3secretaccesskey", "s3sessiontoken",
    "clientkey",
)  # fmt: skip
# Of brokers and streams, at any depth; Nuclio's list is in pkg/platformconfig/types.go.
OF_ATTRIBUTES = (
    "password", "secret", "clientsecret", "accesskey", "accesskeyid", "accesscertificate",
    "secretaccesskey", "sharedaccesskeyvalue", "credentials",
)  # fmt: skip
"""Names of keys, in lower case."""

OWN_KINDS = ("http", "cron")
"""Kinds of triggers whose attributes are the function's own affair, such as what a clock sends."""

_REFERENCE = re.compile(r"(name|ref|url|uri|file|path)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_SHORTEST = 6
"""Characters of a value that is looked for in texts: a shorter one may be anything."""

_OWN_ANNOTATIONS = re.compile(r"(^|\.)(fnbuild|nuclio|kubernetes)\.io/")
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
    drivers and other runtimes are told, the query of the address of its code, and what can be seen
    to be a secret in commands, build arguments and annotations.

    Environment variables stay; see `without_values`.
    """
    raw = without_secrets(raw)
    if raw.get("spec"):
        _for_readers(raw["spec"])
    annotations = (raw.get("metadata") or {}).get("annotations")
    if annotations:
        readable = {name: _annotation(name, text) for name, text in annotations.items()}
        raw["metadata"] = {**raw["metadata"], "annotations": readable}
    return raw


def _for_readers(spec: Raw) -> None:
    """Remove from a spec, which is a copy, the values that readers may not see."""
    for key in ("dataBindings", "runtimeAttributes", "platform"):
        if spec.get(key):
            spec[key] = _readable(spec[key])
    if spec.get("triggers"):
        spec["triggers"] = {
            name: _trigger_shown(trigger) for name, trigger in spec["triggers"].items()
        }
    if spec.get("volumes"):
        spec["volumes"] = [_of_driver(volume) for volume in spec["volumes"]]
    if build := spec.get("build"):
        if build.get("path"):
            build["path"] = _address(build["path"])
        if build.get("runtimeAttributes"):
            build["runtimeAttributes"] = _readable(build["runtimeAttributes"])
        _mask_commands(build)
    for container in _containers(spec):
        _mask_texts(container, ("command", "args"))


def without_values(raw: Raw, *, secrets_only: bool) -> Raw:
    """Return a function's plain values with masked variables, including those of sidecars and
    init containers.

    With `secrets_only` other values stay: users who may change a function may see its settings. A
    reference to the function's own Secret is shown as a value, as on other platforms.
    """
    metadata = raw.get("metadata") or {}
    name, declared = str(metadata.get("name", "")), marked(metadata.get("annotations") or {})

    def mask(variable: Raw) -> Raw:
        if own_key(variable, name):
            rest = {key: value for key, value in variable.items() if key != "valueFrom"}
            return {**rest, "value": REDACTED}
        if not variable.get("value") or (secrets_only and not _is_hidden(variable, declared)):
            return variable
        return {**variable, "value": REDACTED}

    return map_variables(raw, mask)


def secret_variables(raw: Raw) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each secret variable, including other containers."""
    declared = marked((raw.get("metadata") or {}).get("annotations") or {})
    for owner in _with_variables(dict(raw.get("spec") or {})):
        for variable in owner["env"]:
            if isinstance(variable, dict) and _is_hidden(variable, declared):
                yield str(variable.get("name")), str(variable["value"])


def map_variables(raw: Raw, change: Callable[[Raw], Raw]) -> Raw:
    """Return a function's plain values with each variable changed, in all containers."""
    spec = dict(raw.get("spec") or {})
    for owner in _with_variables(spec):
        owner["env"] = [
            change(variable) if isinstance(variable, dict) else variable
            for variable in owner["env"]
        ]
    return {**raw, "spec": spec} if "spec" in raw else dict(raw)


def own_secret(name: str) -> str:
    """Return the name of the Kubernetes Secret that holds a function's secret values.

    Names of functions contain no dot, so the name cannot clash with that of another object.
    """
    return f"nuclio-{name}.env"


def own_key(variable: Raw, name: str) -> str:
    """Return the key of that Secret to which a variable refers, "" if there is none."""
    reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
    return str(reference.get("key", "")) if reference.get("name") == own_secret(name) else ""


def masked_variables(raw: Raw) -> list[str]:
    """Return the names of variables whose value is the mask, as in exports."""
    masked: list[str] = []

    def look(variable: Raw) -> Raw:
        if variable.get("value") == REDACTED:
            masked.append(str(variable.get("name")))
        return variable

    map_variables(raw, look)
    return masked


def refuse_masked(raw: Raw) -> None:
    """Raise `UsageError` if the value of a variable is the mask."""
    if masked := masked_variables(raw):
        raise UsageError(
            f"the value of {', '.join(masked)} is {REDACTED}, which stands for a secret",
            hint=f"`--secret-env {masked[0]}=VALUE` sets it;"
            " `fnbuild export --with-secrets` keeps secrets",
        )


def hiding(raw: Raw) -> tuple[str, ...]:
    """Return the secret values that messages about a function must not show, longest first."""
    values = {value for _, value in secret_variables(raw) if len(value) >= _SHORTEST}
    return tuple(sorted(values - {REDACTED}, key=len, reverse=True))


def hidden(text: str, values: tuple[str, ...]) -> str:
    """Return a text with the mask in place of each of the values."""
    for value in values:
        text = text.replace(value, REDACTED)
    return text


def without_credentials(url: str) -> str:
    """An address without the user's name and password in it."""
    return _CREDENTIALS.sub("", url)


def _is_hidden(variable: Raw, declared: frozenset[str]) -> bool:
    name, value = str(variable.get("name")), variable.get("value")
    return (
        bool(value) and value != REDACTED and (name in declared or sensitive.is_secret(name, value))
    )


def _with_variables(spec: Raw) -> list[Raw]:
    """Return the parts of a spec that have environment variables, containers as copies."""
    return [owner for owner in (spec, *_containers(spec)) if isinstance(owner.get("env"), list)]


def _containers(spec: Raw) -> list[Raw]:
    """Replace sidecars and init containers by copies, and return these."""
    containers = []
    for key in ("sidecars", "initContainers"):
        if isinstance(spec.get(key), list):
            spec[key] = [
                dict(container) if isinstance(container, dict) else container
                for container in spec[key]
            ]
            containers += [container for container in spec[key] if isinstance(container, dict)]
    return containers


def _mask_commands(build: Raw) -> None:
    """Mask recognizable secrets in the commands of a build, which is a copy."""
    _mask_texts(build, ("commands", "flags"))
    if isinstance(build.get("args"), dict):
        build["args"] = {
            name: REDACTED if value and sensitive.is_secret(name, value) else value
            for name, value in build["args"].items()
        }
    if isinstance(build.get("directives"), dict):
        build["directives"] = {
            place: [_directive(directive) for directive in directives]
            if isinstance(directives, list)
            else directives
            for place, directives in build["directives"].items()
        }


def _directive(directive: Any) -> Any:
    if not isinstance(directive, dict) or not isinstance(directive.get("value"), str):
        return directive
    # ENV and ARG lines are assignments by their kind: "ENV NAME VALUE".
    kind = f"{str(directive.get('kind', '')).upper()} "
    return {
        **directive,
        "value": sensitive.masked(kind + directive["value"], REDACTED).removeprefix(kind),
    }


def _mask_texts(owner: Raw, keys: tuple[str, ...]) -> None:
    """Mask recognizable secrets in lists of texts."""
    for key in keys:
        if isinstance(owner.get(key), list):
            owner[key] = [
                sensitive.masked(text, REDACTED) if isinstance(text, str) else text
                for text in owner[key]
            ]


def _annotation(name: str, text: Any) -> Any:
    if not isinstance(text, str) or _OWN_ANNOTATIONS.search(name):
        return text
    if text and looks_secret(name.rpartition("/")[2]):
        return REDACTED
    return sensitive.stripped(text)


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


def _trigger_shown(trigger: Raw) -> Raw:
    trigger = dict(trigger)
    if trigger.get("url"):
        trigger["url"] = sensitive.stripped(trigger["url"])
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
    return sensitive.stripped(value) if isinstance(value, str) else value


def _hidden(name: str, value: Any) -> bool:
    if isinstance(value, bool) or _REFERENCE.search(name):
        return False
    return name.lower() in OF_ATTRIBUTES or name.lower() == "cookie" or looks_secret(name)


def _address(url: str) -> str:
    """The address of code without user, password and the values of its query."""
    base, mark, rest = sensitive.stripped(url).partition("?")
    return base + _QUERY.sub(r"\1…", mark + rest) if mark else base


def _less(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.lower() not in names}
