"""Convert the flags of deploy and build to the fields of a function that they override.

The flags are nuctl's (pkg/nuctl/command/deploy.go, build.go). As in nuctl, a flag with Go's zero
value counts as not given, as does -1 for a number that may be zero. The result contains only the
given fields, which take precedence over the file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fnbuild.errors import UsageError
from fnbuild.function import gpu_group_settings as gpu_group
from fnbuild.function import reader
from fnbuild.function.access_settings import OPEN_ANNOTATION
from fnbuild.function.merge import DEFAULT_HTTP_TRIGGER
from fnbuild.function.record_settings import RECORD, RECORD_AGE
from fnbuild.function.secret_detection import SECRET_ENV_ANNOTATION
from fnbuild.function.sleep_settings import IDLE_TIMEOUT, SLEEP_LEVEL
from fnbuild.function.types import Function, Raw
from fnbuild.runtime.protocols.mapping import PROTOCOLS

Flags = Mapping[str, Any]
"""Flag values by parameter name, as click gives them."""

# Texts and switches. Empty and false values count as not given.
_TEXT_FIELDS = {
    "desc": "spec.description",
    "handler": "spec.handler",
    "runtime": "spec.runtime",
    "run_image": "spec.image",
    "run_registry": "spec.runRegistry",
    "node_name": "spec.nodeName",
    "priority_class_name": "spec.priorityClassName",
    "preemption_policy": "spec.preemptionPolicy",
    "http_trigger_service_type": "spec.serviceType",
    "disable": "spec.disable",
    "hardened": "spec.platform.attributes.hardened",
    "publish": "spec.publish",
    "image": "spec.build.image",
    "registry": "spec.build.registry",
    "base_image": "spec.build.baseImage",
    "server_image": "spec.platform.attributes.torchserve.baseImage",
    "expose_management": "spec.platform.attributes.torchserve.exposeManagement",
    "onbuild_image": "spec.build.onbuildImage",
    "no_pull": "spec.build.noBaseImagesPull",
    "no_cache": "spec.build.noCache",
    "no_cleanup": "spec.build.noCleanup",
    "offline": "spec.build.offline",
    "code_entry_type": "spec.build.codeEntryType",
}

# Numbers. -1 counts as not given, 0 as given.
_NUMBER_FIELDS = {
    "replicas": "spec.replicas",
    "min_replicas": "spec.minReplicas",
    "max_replicas": "spec.maxReplicas",
    "target_cpu": "spec.targetCPU",
    "readiness_timeout": "spec.readinessTimeoutSeconds",
    "run_as_user": "spec.securityContext.runAsUser",
    "run_as_group": "spec.securityContext.runAsGroup",
    "fsgroup": "spec.securityContext.fsGroup",
    "canary": "spec.platform.attributes.kserve.canaryTrafficPercent",
}

_OBJECT_FIELDS = {
    "triggers": "spec.triggers",
    "data_bindings": "spec.dataBindings",
    "platform_config": "spec.platform",
    "runtime_attrs": "spec.runtimeAttributes",
    "build_runtime_attrs": "spec.build.runtimeAttributes",
    "build_code_entry_attrs": "spec.build.codeEntryAttributes",
}

_MAP_FIELDS = {
    "labels": "metadata.labels",
    "annotations": "metadata.annotations",
    "node_selector": "spec.nodeSelector",
}

_ANNOTATION_FIELDS = {
    "idle_timeout": IDLE_TIMEOUT,
    "sleep_level": SLEEP_LEVEL,
    "record": RECORD,
    "record_age": RECORD_AGE,
    "gpu_group": gpu_group.GROUP,
    "gpu_group_awake": gpu_group.AWAKE,
    "gpu_group_memory": gpu_group.BUDGET,
    "gpu_memory": gpu_group.NEED,
    "gpu_group_permanent": gpu_group.PERMANENT,
    "workers_per_device": gpu_group.WORKERS_PER_DEVICE,
}


def function_overrides(flags: Flags, platform: str = "") -> Function:
    """Return a function that contains only the given fields. Raises `UsageError`."""
    if platform == "torchserve":
        # The image of its servers: nothing is built.
        flags = {**flags, "base_image": None, "server_image": flags.get("base_image")}
    return reader.function_from_dict(raw_overrides(flags), "the command line")


def raw_overrides(flags: Flags) -> Raw:
    """Return the given fields as plain JSON values."""
    raw: Raw = {}
    # Objects come first, since other flags set single fields in them.
    for name, place in _OBJECT_FIELDS.items():
        _set_field_if_given(raw, place, json_object(_flag_name(name), flags.get(name)))
    for name, place in _TEXT_FIELDS.items():
        _set_field_if_given(raw, place, flags.get(name))
    for name, place in _NUMBER_FIELDS.items():
        value = flags.get(name)
        if value is not None and value >= 0:
            _set_field(raw, place, value)
    for name, place in _MAP_FIELDS.items():
        _set_field_if_given(raw, place, key_values(_flag_name(name), flags.get(name)))
    _set_annotations(raw, flags)
    declared = flags.get("secret_env") or ()
    _set_field_if_given(raw, "spec.env", environment_variables(flags.get("env") or (), declared))
    _declare_secrets(raw, declared)
    _declare_open(raw, flags)
    _set_field_if_given(raw, "spec.build.args", build_arguments(flags.get("build_arg") or ()))
    _set_field_if_given(raw, "spec.volumes", volumes(flags.get("volume") or ()))
    for name, kind in (("resource_limit", "limits"), ("resource_request", "requests")):
        _set_field_if_given(
            raw, f"spec.resources.{kind}", quantities(_flag_name(name), flags.get(name) or ())
        )
    _set_field_if_given(
        raw, "spec.platform.attributes.allowFrom", list(flags.get("allow_from") or ())
    )
    _set_field_if_given(raw, "spec.build.commands", list(flags.get("build_command") or ()))
    if protocols := _protocols(flags.get("protocols")):
        _set_protocols(raw, protocols)
    if flags.get("logger_level"):
        _set_field(raw, "spec.loggerSinks", [{"level": flags["logger_level"]}])
    if flags.get("source"):
        _set_field(raw, "spec.build.functionSourceCode", encoded_source(flags["source"]))
    return raw


def _protocols(text: str | None) -> list[str]:
    """Parse `v1,v2`. Raises `UsageError` for other protocols."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in PROTOCOLS:
            raise _format_error("--protocols", name, ",".join(PROTOCOLS))
    return list(dict.fromkeys(names))


def _set_protocols(raw: Raw, protocols: list[str]) -> None:
    triggers = raw.setdefault("spec", {}).setdefault("triggers", {})
    http = (name for name, trigger in triggers.items() if trigger.get("kind") == "http")
    # The default's name stands for the http trigger of the file, whatever its name; see `merge`.
    trigger = triggers.setdefault(next(http, DEFAULT_HTTP_TRIGGER), {"kind": "http"})
    trigger["attributes"] = {**trigger.get("attributes", {}), "protocols": protocols}


def encoded_source(text: str) -> str:
    """Return source as base64. As in nuctl, `text` is source or base64.

    Text that consists of base64 characters and line breaks and decodes to UTF-8 is base64. Source
    code always contains other characters, such as blanks and brackets.
    """
    lines = "".join(text.splitlines())
    try:
        base64.b64decode(lines, validate=True).decode()
    except (binascii.Error, ValueError):
        return base64.b64encode(text.encode()).decode()
    return lines


def _set_annotations(raw: Raw, flags: Flags) -> None:
    """Set the annotations that have flags of their own."""
    annotations = {key: flags[name] for name, key in _ANNOTATION_FIELDS.items() if flags.get(name)}
    if annotations:
        raw.setdefault("metadata", {}).setdefault("annotations", {}).update(annotations)


def _declare_secrets(raw: Raw, declared: Iterable[str]) -> None:
    """Record which variables hold secrets."""
    names = sorted({text.partition("=")[0].strip() for text in declared})
    if names:
        annotations = raw.setdefault("metadata", {}).setdefault("annotations", {})
        annotations[SECRET_ENV_ANNOTATION] = ",".join(names)


def _declare_open(raw: Raw, flags: Flags) -> None:
    """Record that the function needs no credentials."""
    if flags.get("open_"):
        raw.setdefault("metadata", {}).setdefault("annotations", {})[OPEN_ANNOTATION] = "true"


def key_values(flag: str, text: str | None) -> dict[str, str]:
    """Parse `k=v,k=v`. A value may contain `=` but no comma."""
    result: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        key, equals, value = part.strip().partition("=")
        if not equals or not key:
            raise _format_error(flag, part, "key=value[,key=value...]")
        result[key] = value
    return result


def environment_variables(
    pairs: Iterable[str], declared: Iterable[str] = ()
) -> list[dict[str, str]]:
    """Parse `NAME=value`. The last value of a name wins.

    A declared secret without a value keeps the value of the configuration.
    """
    result = _name_value_pairs("--env", pairs)
    for text in declared:
        if not text.partition("=")[0].strip() or "," in text.partition("=")[0]:
            raise _format_error("--secret-env", text, "NAME=value` or `NAME")
    result |= _name_value_pairs("--secret-env", (text for text in declared if "=" in text))
    return [{"name": name, "value": value} for name, value in result.items()]


def build_arguments(pairs: Iterable[str]) -> dict[str, str]:
    """Parse build arguments, `NAME=value`. An empty value removes the argument."""
    return _name_value_pairs("--build-arg", pairs)


def _name_value_pairs(flag: str, pairs: Iterable[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise _format_error(flag, pair, "NAME=value")
        result[name.strip()] = value
    return result


def volumes(pairs: Iterable[str]) -> list[Raw]:
    """Parse `source:destination[:ro]` to host path volumes named volume-1, volume-2 …"""
    result: list[Raw] = []
    for index, text in enumerate(pairs, 1):
        source, _, rest = text.partition(":")
        destination, _, mode = rest.partition(":")
        if not source or not destination.startswith("/") or mode not in ("", "ro", "rw"):
            raise _format_error("--volume", text, "source:/destination[:ro]")
        mount: Raw = {"name": f"volume-{index}", "mountPath": destination}
        if mode == "ro":
            mount["readOnly"] = True
        result.append(
            {
                "volume": {"name": f"volume-{index}", "hostPath": {"path": source}},
                "volumeMount": mount,
            }
        )
    return result


def quantities(flag: str, pairs: Iterable[str]) -> dict[str, str]:
    """Parse `name=quantity`, such as `cpu=500m`, `memory=2Gi` or `nvidia.com/gpu=1`."""
    from fnbuild.function.quantities import parse_quantity

    result: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not _is_valid(parse_quantity, value):
            raise _format_error(flag, pair, "name=quantity, such as memory=2Gi or nvidia.com/gpu=1")
        result[name] = value
    return result


def json_object(flag: str, text: str | None) -> Raw:
    """A JSON object; empty text is an empty one."""
    if not text or not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{flag} is not JSON: {error.msg} at character {error.pos + 1}: {_shortened(text)}",
            hint=f'write it as a JSON object in single quotes: `{flag} \'{{"key": "value"}}\'`',
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            f"{flag} must be a JSON object, not {type(value).__name__}: {_shortened(text)}"
        )
    return value


def _is_valid(check: Callable[[str], object], value: str) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True


def _set_field(raw: Raw, place: str, value: Any) -> None:
    *parents, last = place.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
    raw[last] = value


def _set_field_if_given(raw: Raw, place: str, value: Any) -> None:
    if value:
        _set_field(raw, place, value)


_CAMEL_CASE_FLAGS = {
    "node_selector": "--nodeSelector",
    "node_name": "--nodeName",
    "priority_class_name": "--priorityClassName",
    "preemption_policy": "--preemptionPolicy",
}


def _flag_name(name: str) -> str:
    return _CAMEL_CASE_FLAGS.get(name, "--" + name.replace("_", "-"))


def _format_error(flag: str, value: str, form: str) -> UsageError:
    return UsageError(f'{flag} "{_shortened(value)}" is invalid', hint=f"write `{flag} {form}`")


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
