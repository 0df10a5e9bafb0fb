"""One function out of two: what the winner says stands, the base fills the empty places.

Nuclio's rules (pkg/functionconfig/reader.go): maps are joined key by key, variables by name, and a
zero value cannot override, but for numbers of replicas: none is what somebody asks for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fnbuild.function.secret_detection import SECRET_ENV_ANNOTATION, declared_secrets
from fnbuild.function.types import EnvVar, Function, Spec, Struct, Trigger

_REPLICA_COUNTS = ("replicas", "min_replicas")

DEFAULT_HTTP_TRIGGER = "default-http"
"""The name of the http trigger that Nuclio inserts where there is none."""


def merge_functions(winner: Function, base: Function) -> Function:
    """The two as one. Of two http triggers, one inserted by default gives way."""
    merged: Function = _merge_structs(winner, base)
    declared = declared_secrets(winner.metadata.annotations) | declared_secrets(
        base.metadata.annotations
    )
    if declared:
        # What one of the two declares to be a secret stays one.
        annotations = {
            **merged.metadata.annotations,
            SECRET_ENV_ANNOTATION: ",".join(sorted(declared)),
        }
        metadata = msgspec.structs.replace(merged.metadata, annotations=annotations)
        merged = msgspec.structs.replace(merged, metadata=metadata)
    triggers = merged.spec.triggers
    http = [name for name, trigger in triggers.items() if trigger.kind == "http"]
    if len(http) > 1 and DEFAULT_HTTP_TRIGGER in http:
        kept: dict[str, Trigger] = {k: v for k, v in triggers.items() if k != DEFAULT_HTTP_TRIGGER}
        spec = msgspec.structs.replace(merged.spec, triggers=kept)
        merged = msgspec.structs.replace(merged, spec=spec)
    return merged


def _merge_structs(winner: Any, base: Any) -> Any:
    if isinstance(winner, Trigger) and (winner.num_workers or winner.max_workers):
        # One number under two names: numWorkers of the base must not beat maxWorkers of the winner.
        base = msgspec.structs.replace(base, num_workers=0, max_workers=0)
    values = {
        field.name: _merge_values(getattr(winner, field.name), getattr(base, field.name))
        for field in msgspec.structs.fields(winner)
    }
    if isinstance(winner, Spec):
        counts = {name: getattr(winner, name) for name in _REPLICA_COUNTS}
        values |= {name: count for name, count in counts.items() if count is not None}
    return type(winner)(**values)


def _merge_values(winner: Any, base: Any) -> Any:
    if isinstance(winner, Struct) and isinstance(base, Struct):
        return _merge_structs(winner, base)
    if isinstance(winner, dict) and isinstance(base, dict):
        return _merge_maps(winner, base)
    if isinstance(winner, list) and isinstance(base, list):
        return _merge_lists(winner, base)
    if winner is None or (winner in ("", False, 0) and base is not None):
        return base
    return winner


def _merge_maps(winner: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in winner.items():
        both = key in base and isinstance(value, dict | Struct)
        result[key] = _merge_values(value, base[key]) if both else value
    return result


def _merge_lists(winner: list[Any], base: list[Any]) -> list[Any]:
    if not winner or not base:
        return winner or base
    if isinstance(winner[0], EnvVar):
        names = {variable.name for variable in winner}
        return [*winner, *(variable for variable in base if variable.name not in names)]
    return winner
