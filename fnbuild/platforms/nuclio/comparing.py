"""What of a function is compared: what Nuclio has against what is wanted.

Nuclio fills in defaults of its own, so what nobody ever gave is left out.
"""

from __future__ import annotations

from typing import Any

from fnbuild.platforms.nuclio.records import PROCESSOR_VARIABLE, metadata_of, without_own
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Raw

# What the image and its code stand for, and what Nuclio or its dashboard sets by itself.
_NOT_COMPARED = ("image", "imageHash", "runRegistry", "imagePullPolicy", "version", "alias")
_NOT_OF_BUILD = (
    "path", "functionSourceCode", "image", "mode", "codeEntryType", "registry", "timestamp",
    "noBaseImagesPull", "offline", "noCache", "noCleanup", "tempDir", "functionConfigPath",
)  # fmt: skip
# Nuclio keeps such values elsewhere when it masks them (pkg/functionconfig/scrubber.go).
_MASKED = "$ref:"
# Kubernetes writes 1000m as 1.
_QUANTITIES = "resources"


def compared(raw: Raw) -> Raw:
    """What of a function is compared, with its variables by their names."""
    metadata, spec = metadata_of(raw), dict(raw.get("spec") or {})
    for name in _NOT_COMPARED:
        spec.pop(name, None)
    # What others wrote may be of any type.
    build, env = spec.pop("build", None), spec.pop("env", None)
    build = {k: one for k, one in _mapping(build).items() if k not in _NOT_OF_BUILD}
    triggers = _mapping(spec.pop("triggers", None))
    given = [one for one in env if isinstance(one, dict)] if isinstance(env, list) else []
    variables = {str(one.get("name")): _variable(one) for one in given}
    variables.pop(PROCESSOR_VARIABLE, None)
    if build:
        spec["build"] = build
    if triggers:
        spec["triggers"] = {name: _mapping(one) for name, one in triggers.items()}
    if variables:
        spec["env"] = variables
    return {
        "metadata": {
            "labels": metadata.get("labels") or {},
            "annotations": without_own(metadata.get("annotations") or {}),
        },
        "spec": spec,
    }


def _mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}


def _variable(one: Raw) -> Any:
    """The value of a variable, or where it comes from."""
    rest = {key: value for key, value in one.items() if key != "name"}
    return rest.get("value", "") if set(rest) <= {"value"} else rest


def skeleton(values: Any) -> Any:
    """The keys of a mapping with those below them; 1 stands for anything else."""
    if not isinstance(values, dict):
        return 1
    return {key: skeleton(value) for key, value in values.items()}


def projected(stored: Any, after: Any, fields: Any, place: str = "") -> Any:
    """Of what Nuclio has, the part that is wanted now or was given at the last deploy (`fields`).

    None for `fields` means that nobody knows what was given: then it is all that Nuclio has. Values
    that mean the same as the wanted ones are shown as these.
    """
    if not isinstance(stored, dict):
        return _leaf(stored, after, place)
    wanted = after if isinstance(after, dict) else {}
    given = fields if isinstance(fields, dict) else {}
    # In the order of what is wanted, so that order is no difference.
    return {
        key: projected(
            stored[key],
            wanted.get(key),
            None if fields is None else given.get(key, {}),
            place if place == _QUANTITIES else key,
        )
        for key in dict.fromkeys([*wanted, *stored])
        if key in stored and (fields is None or key in wanted or key in given)
    }


def _leaf(stored: Any, after: Any, place: str) -> Any:
    if not isinstance(stored, str) or not isinstance(after, str):
        return stored
    alike = place == _QUANTITIES and _same_quantity(stored, after)
    return after if alike or stored.startswith(_MASKED) else stored


def _same_quantity(one: str, other: str) -> bool:
    try:
        return bool(quantity(one) == quantity(other))
    except ValueError:
        return False
