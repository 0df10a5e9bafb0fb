"""The JSON Schema (2020-12) of function.yaml, for editors and other tools.

`python -m fnbuild.spec.schema FILE` writes it; without FILE it is printed.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from fnbuild.spec import descriptions
from fnbuild.spec.function_rules import MAX_NAME
from fnbuild.spec.labels import KINDS
from fnbuild.spec.trigger_rules import MAX_WORKERS, SERVICE_TYPES
from fnbuild.spec.types import Function, Resources, Struct

# YAML that people write: a text field takes what Nuclio turns into text.
_TEXT = {"type": ["string", "number", "boolean", "null"]}
_QUANTITY = {"type": ["string", "number"]}
_ANY_MAPPING = {"type": ["object", "null"]}

_NARROWER: dict[str, dict[str, Any]] = {
    "Metadata.name": {
        "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", "maxLength": MAX_NAME
    },
    "Spec.runtime": {"type": "string", "pattern": r"^python(:3\.([6-9]|[1-9][0-9]+)(\.\d+)?)?$"},
    "Spec.handler": {"type": "string", "pattern": r"^[\w|-]+(\.[\w|-]+)*:\w+$"},
    "Spec.eventTimeout": {"type": "string", "examples": ["30s", "2m"]},
    "Spec.serviceType": {"enum": list(SERVICE_TYPES)},
    "Spec.imagePullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "Spec.targetCPU": {"type": "integer", "minimum": 0, "maximum": 100},
    "Spec.minReplicas": {"type": ["integer", "null"], "minimum": 0},
    "Spec.maxReplicas": {"type": ["integer", "null"], "minimum": 1},
    "Trigger.kind": {"type": "string", "examples": ["http", "cron"]},
    "Trigger.numWorkers": {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS},
    "Trigger.maxWorkers": {
        "type": "integer", "minimum": 1, "maximum": MAX_WORKERS, "deprecated": True
    },
    "Build.mode": {"enum": ["neverBuild", "alwaysBuild"]},
}  # fmt: skip


def schema() -> dict[str, Any]:
    """The schema as plain JSON values."""
    definitions: dict[str, Any] = {}
    root = _struct(Function, definitions)
    root["properties"]["apiVersion"] = {"description": "Ignored."}
    root["properties"]["kind"] = {"description": "Ignored."}
    annotations = definitions["Metadata"]["properties"]["annotations"]
    annotations["properties"] = _annotations()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "function.yaml",
        **root,
        "$defs": definitions,
    }


def _annotations() -> dict[str, Any]:
    result: dict[str, Any] = {
        key: {**_TEXT, "description": text} for key, text in descriptions.ANNOTATIONS.items()
    }
    result["type"] = {"enum": list(KINDS), "description": descriptions.ANNOTATIONS["type"]}
    for key in ("version", "min_pos_points", "min_neg_points"):
        whole = {"type": ["integer", "string"], "pattern": r"^\s*[+-]?\d+\s*$"}
        result[key] = {**whole, "description": descriptions.ANNOTATIONS[key]}
    return result


def _struct(cls: type[Struct], definitions: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in msgspec.structs.fields(cls):
        if field.name == "extra":
            continue
        name = f"{cls.__name__}.{field.encode_name}"
        value = dict(_NARROWER.get(name) or _type(field.type, definitions))
        if cls is Resources:
            value = {"type": ["object", "null"], "additionalProperties": _QUANTITY}
        value["description"] = descriptions.FIELDS[name]
        properties[field.encode_name] = value
        if field.required:
            required.append(field.encode_name)
    result: dict[str, Any] = {"type": ["object", "null"], "properties": properties}
    if required:
        result["required"] = required
    return result


def _type(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = next(arm for arm in typing.get_args(kind) if arm is not type(None))
        return _type(inner, definitions)
    simple: dict[Any, dict[str, Any]] = {
        str: _TEXT,
        bool: {"type": ["boolean", "null"]},
        int: {"type": ["integer", "null"]},
        Any: {},
    }
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        if arguments[1] is Any:
            return _ANY_MAPPING
        values = _type(arguments[1], definitions)
        return {"type": ["object", "null"], "additionalProperties": values}
    if origin is list:
        return {"type": ["array", "null"], "items": _type(arguments[0], definitions)}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}
        definitions[kind.__name__] = _struct(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Write the schema to the file named, or print it."""
    if arguments:
        Path(arguments[0]).write_text(text(), encoding="utf-8")
    else:
        sys.stdout.write(text())


if __name__ == "__main__":
    main(sys.argv[1:])
