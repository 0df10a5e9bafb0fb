"""Copies of a configuration without its secrets, for readers, exports and images.

In names, `mask` means to put a mark in place of a secret, `strip` to delete it from a text, and
`redact` to do both for a reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from fnbuild.errors import UsageError
from fnbuild.function.access_settings import without_access_secrets
from fnbuild.function.secret_detection import (
    declared_secrets,
    is_secret,
    is_secret_name,
    mask_secrets,
    strip_credentials,
    strip_userinfo,
)
from fnbuild.function.secret_references import managed_secret_key
from fnbuild.function.types import Raw

REDACTED = "[redacted]"
"""Replaces a value that is not shown."""

SECRET_TRIGGER_KEYS = ("password", "secret")
SECRET_CODE_KEYS = (
    "username", "password", "headers", "s3accesskeyid", "s3secretaccesskey", "s3sessiontoken",
    "clientkey",
)  # fmt: skip
# Of brokers and streams, at any depth; Nuclio's list is in pkg/platformconfig/types.go.
SECRET_ATTRIBUTE_KEYS = (
    "password", "secret", "clientsecret", "accesskey", "accesskeyid", "accesscertificate",
    "secretaccesskey", "sharedaccesskeyvalue", "credentials",
)  # fmt: skip
"""Names of keys, in lower case."""

PLAIN_TRIGGER_KINDS = ("http", "cron")
"""Kinds of triggers whose attributes hold no credentials, such as the event of a cron trigger."""

_REFERENCE_NAME = re.compile(r"(name|ref|url|uri|file|path)$", re.IGNORECASE)
_SHORTEST_SECRET = 6
"""The least length of a secret that is masked in messages."""

_SYSTEM_ANNOTATIONS = re.compile(r"(^|\.)(fnbuild|nuclio|kubernetes)\.io/")
_QUERY_PARAMETER = re.compile(r"(?<=[?&])([^=&#\s]*=)?[^&#\s]*")


def without_access_credentials(raw: Raw) -> Raw:
    """Return a function's JSON object without the credentials of its triggers and code entry.

    The values of variables stay, secret ones too: a function cannot run without them.
    """
    spec = dict(raw.get("spec") or {})
    _change_each(spec, "triggers", _trigger_without_credentials)
    _change(spec, "build", dict)
    if build := spec.get("build"):
        _change(
            build, "codeEntryAttributes", lambda values: _without_keys(values, SECRET_CODE_KEYS)
        )
        _change(build, "path", strip_userinfo)
    return {**raw, "spec": spec} if "spec" in raw else dict(raw)


def redact_except_variables(raw: Raw) -> Raw:
    """Return a function's JSON object without secrets outside of environment variables.

    Besides the values that `without_access_credentials` removes, these are secrets in attributes of
    triggers, drivers and other runtimes, in the query of the code's address, and in commands, build
    arguments and annotations. `mask_variables` does the rest for users who may only read.
    """
    raw = without_access_credentials(raw)
    if raw.get("spec"):
        _redact_spec(raw["spec"])
    if annotations := (raw.get("metadata") or {}).get("annotations"):
        readable = {name: _redact_annotation(name, text) for name, text in annotations.items()}
        raw["metadata"] = {**raw["metadata"], "annotations": readable}
    return raw


def _redact_spec(spec: Raw) -> None:
    """Remove from a spec, which is a copy, the values that readers may not see."""
    for key in ("dataBindings", "runtimeAttributes", "platform"):
        _change(spec, key, _redact_value)
    _change_each(spec, "triggers", _redact_trigger)
    _change(spec, "volumes", lambda volumes: [_redact_volume(volume) for volume in volumes])
    if build := spec.get("build"):
        _change(build, "path", _redact_code_address)
        _change(build, "runtimeAttributes", _redact_value)
        _mask_commands(build)
    for container in _containers(spec):
        _mask_texts(container, ("command", "args"))


def _change(owner: Raw, key: str, change: Callable[[Any], Any]) -> None:
    """Change the value of a key, unless it is missing or empty."""
    if owner.get(key):
        owner[key] = change(owner[key])


def _change_each(owner: Raw, key: str, change: Callable[[Raw], Raw]) -> None:
    """Change each value in the mapping of a key."""
    _change(owner, key, lambda items: {name: change(item) for name, item in items.items()})


def mask_variables(raw: Raw, *, secrets_only: bool) -> Raw:
    """Return a function's JSON object with masked variables, in all containers.

    With `secrets_only` other values stay: users who may change a function may see its settings. A
    reference to the function's managed Secret is shown as a value, as on other platforms.
    """
    metadata = raw.get("metadata") or {}
    name = str(metadata.get("name", ""))
    declared = declared_secrets(metadata.get("annotations") or {})

    def mask(variable: Raw) -> Raw:
        if managed_secret_key(variable, name):
            rest = {key: value for key, value in variable.items() if key != "valueFrom"}
            return {**rest, "value": REDACTED}
        if not variable.get("value") or (
            secrets_only and not _is_secret_variable(variable, declared)
        ):
            return variable
        return {**variable, "value": REDACTED}

    return map_variables(raw, mask)


def secret_variables(raw: Raw) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each secret variable, in all containers."""
    declared = declared_secrets((raw.get("metadata") or {}).get("annotations") or {})
    for owner in _owners_of_variables(dict(raw.get("spec") or {})):
        for variable in owner["env"]:
            if isinstance(variable, dict) and _is_secret_variable(variable, declared):
                yield str(variable.get("name")), str(variable["value"])


def map_variables(raw: Raw, change: Callable[[Raw], Raw]) -> Raw:
    """Return a function's JSON object with each variable changed, in all containers."""
    spec = dict(raw.get("spec") or {})
    for owner in _owners_of_variables(spec):
        owner["env"] = [
            change(variable) if isinstance(variable, dict) else variable
            for variable in owner["env"]
        ]
    return {**raw, "spec": spec} if "spec" in raw else dict(raw)


def names_of_masked_variables(raw: Raw) -> list[str]:
    """Return the names of variables whose value is the mask, as in exports."""
    return [
        str(variable.get("name"))
        for owner in _owners_of_variables(dict(raw.get("spec") or {}))
        for variable in owner["env"]
        if isinstance(variable, dict) and variable.get("value") == REDACTED
    ]


def reject_masked_values(raw: Raw) -> None:
    """Raise `UsageError` if the value of a variable is the mask."""
    if masked := names_of_masked_variables(raw):
        raise UsageError(
            f"the value of {', '.join(masked)} is {REDACTED}, which replaces a secret",
            hint=f"`--secret-env {masked[0]}=VALUE` sets it;"
            " `fnbuild export --with-secrets` keeps secrets",
        )


def secret_values(raw: Raw) -> tuple[str, ...]:
    """Return the values of a function's secret variables to mask in messages, longest first.

    Values of less than six characters are left out, because they occur in messages by chance.
    """
    values = {value for _, value in secret_variables(raw) if len(value) >= _SHORTEST_SECRET}
    return tuple(sorted(values - {REDACTED}, key=len, reverse=True))


def mask_values(text: str, values: tuple[str, ...]) -> str:
    """Return a text with the mask in place of each of the values."""
    for value in values:
        text = text.replace(value, REDACTED)
    return text


def _is_secret_variable(variable: Raw, declared: frozenset[str]) -> bool:
    name, value = str(variable.get("name")), variable.get("value")
    return bool(value) and value != REDACTED and (name in declared or is_secret(name, value))


def _owners_of_variables(spec: Raw) -> list[Raw]:
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
            name: REDACTED if value and is_secret(name, value) else value
            for name, value in build["args"].items()
        }
    if isinstance(build.get("directives"), dict):
        build["directives"] = {
            place: [_mask_directive(directive) for directive in directives]
            if isinstance(directives, list)
            else directives
            for place, directives in build["directives"].items()
        }


def _mask_directive(directive: Any) -> Any:
    if not isinstance(directive, dict) or not isinstance(directive.get("value"), str):
        return directive
    # ENV and ARG lines are assignments by their kind: "ENV NAME VALUE".
    kind = f"{str(directive.get('kind', '')).upper()} "
    return {
        **directive,
        "value": mask_secrets(kind + directive["value"], REDACTED).removeprefix(kind),
    }


def _mask_texts(owner: Raw, keys: tuple[str, ...]) -> None:
    """Mask recognizable secrets in lists of texts."""
    for key in keys:
        if isinstance(owner.get(key), list):
            owner[key] = [
                mask_secrets(text, REDACTED) if isinstance(text, str) else text
                for text in owner[key]
            ]


def _redact_annotation(name: str, text: Any) -> Any:
    if not isinstance(text, str) or _SYSTEM_ANNOTATIONS.search(name):
        return text
    if text and is_secret_name(name.rpartition("/")[2]):
        return REDACTED
    return strip_credentials(text)


def _trigger_without_credentials(original: Raw) -> Raw:
    trigger = _without_keys(original, SECRET_TRIGGER_KEYS)
    _change(trigger, "url", strip_userinfo)
    if trigger.get("kind") == "http":
        _change(trigger, "attributes", without_access_secrets)
    elif trigger.get("kind") not in PLAIN_TRIGGER_KINDS:
        _change(
            trigger,
            "attributes",
            lambda values: _filter_value(values, _is_secret_attribute, strip_userinfo),
        )
    return trigger


def _is_secret_attribute(name: str, _value: Any) -> bool:
    return name.lower() in SECRET_ATTRIBUTE_KEYS


def _redact_trigger(trigger: Raw) -> Raw:
    trigger = dict(trigger)
    _change(trigger, "url", strip_credentials)
    _change(trigger, "attributes", _redact_value)
    return trigger


def _redact_volume(entry: Raw) -> Raw:
    """Redact the options of drivers; Kubernetes' own kinds of volumes only refer to secrets."""
    volume = entry.get("volume")
    if not isinstance(volume, dict):
        return entry
    drivers = {key: _redact_value(volume[key]) for key in ("flexVolume", "csi") if key in volume}
    return {**entry, "volume": {**volume, **drivers}}


def _redact_value(value: Any) -> Any:
    return _filter_value(value, _is_hidden_key, strip_credentials)


def _filter_value(
    value: Any, is_hidden: Callable[[str, Any], bool], strip: Callable[[str], str]
) -> Any:
    """Return a JSON value without hidden keys at any depth, and with stripped texts."""
    if isinstance(value, dict):
        return {
            name: _filter_value(item, is_hidden, strip)
            for name, item in value.items()
            if not is_hidden(name, item)
        }
    if isinstance(value, list):
        return [_filter_value(item, is_hidden, strip) for item in value]
    return strip(value) if isinstance(value, str) else value


def _is_hidden_key(name: str, value: Any) -> bool:
    if isinstance(value, bool) or _REFERENCE_NAME.search(name):
        return False
    return _is_secret_attribute(name, value) or name.lower() == "cookie" or is_secret_name(name)


def _redact_code_address(url: str) -> str:
    """Return the address of code without user, password and the values of its query."""
    base, mark, rest = strip_credentials(url).partition("?")
    return base + _QUERY_PARAMETER.sub(r"\1…", mark + rest) if mark else base


def _without_keys(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.lower() not in names}
