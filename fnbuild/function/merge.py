"""Merge two functions: the override takes precedence, the base supplies missing values.

The rules are Nuclio's (pkg/functionconfig/reader.go): maps are merged by key, variables by name,
and a zero value does not override. Numbers of replicas do, since zero replicas is a valid request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fnbuild.function.secret_detection import SECRET_ENV_ANNOTATION, declared_secrets
from fnbuild.function.types import EnvVar, Function, Spec, Struct, Trigger

_REPLICA_COUNTS = ("replicas", "min_replicas")

DEFAULT_HTTP_TRIGGER = "default-http"
"""The name of the http trigger that Nuclio adds if there is none."""


def merge_functions(override: Function, base: Function) -> Function:
    """Return the merged function. A default http trigger is dropped if there is another one."""
    merged: Function = _merge_structs(_with_trigger_name_of(base, override), base)
    declared = declared_secrets(override.metadata.annotations) | declared_secrets(
        base.metadata.annotations
    )
    if declared:
        # A variable that either function declares to be a secret stays one.
        annotations = {
            **merged.metadata.annotations,
            SECRET_ENV_ANNOTATION: ",".join(sorted(declared)),
        }
        merged = merged.with_metadata(annotations=annotations)
    triggers = merged.spec.triggers
    http = [name for name, trigger in triggers.items() if trigger.kind == "http"]
    if len(http) > 1 and DEFAULT_HTTP_TRIGGER in http:
        kept: dict[str, Trigger] = {k: v for k, v in triggers.items() if k != DEFAULT_HTTP_TRIGGER}
        merged = merged.with_spec(triggers=kept)
    return merged


def _with_trigger_name_of(base: Function, override: Function) -> Function:
    """Return the override with its default http trigger named as that of the base.

    This is a trigger without a number of workers: it only changes attributes, as flags do.
    """
    trigger = override.spec.triggers.get(DEFAULT_HTTP_TRIGGER)
    if trigger is None or trigger.num_workers or trigger.max_workers:
        return override
    http = base.http_trigger()
    if http is None or http[0] == DEFAULT_HTTP_TRIGGER:
        return override
    triggers = {k: v for k, v in override.spec.triggers.items() if k != DEFAULT_HTTP_TRIGGER}
    own = triggers.get(http[0])
    triggers[http[0]] = trigger if own is None else _merge_structs(own, trigger)
    return override.with_spec(triggers=triggers)


def _merge_structs(override: Any, base: Any) -> Any:
    if isinstance(override, Trigger) and (override.num_workers or override.max_workers):
        # Two names of one number: the base's numWorkers must not beat the override's maxWorkers.
        base = msgspec.structs.replace(base, num_workers=0, max_workers=0)
    values = {
        field.name: _merge_values(getattr(override, field.name), getattr(base, field.name))
        for field in msgspec.structs.fields(override)
    }
    if isinstance(override, Spec):
        counts = {name: getattr(override, name) for name in _REPLICA_COUNTS}
        values |= {name: count for name, count in counts.items() if count is not None}
    return type(override)(**values)


def _merge_values(override: Any, base: Any) -> Any:
    if isinstance(override, Struct) and isinstance(base, Struct):
        return _merge_structs(override, base)
    if isinstance(override, dict) and isinstance(base, dict):
        return _merge_maps(override, base)
    if isinstance(override, list) and isinstance(base, list):
        return _merge_lists(override, base)
    if override is None or (override in ("", False, 0) and base is not None):
        return base
    return override


def _merge_maps(override: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in override.items():
        both = key in base and isinstance(value, dict | Struct)
        result[key] = _merge_values(value, base[key]) if both else value
    return result


def _merge_lists(override: list[Any], base: list[Any]) -> list[Any]:
    if not override or not base:
        return override or base
    if isinstance(override[0], EnvVar):
        names = {variable.name for variable in override}
        return [*override, *(variable for variable in base if variable.name not in names)]
    return override
