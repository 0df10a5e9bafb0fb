"""The JSON Schema (2020-12) of function.yaml, for editors and other tools.

`python -m fnbuild.function.schema FILE` writes it; without FILE it is printed.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from fnbuild.function import access_schema, gpu_group_settings, record_settings, sleep_settings
from fnbuild.function.attribute_rules import ATTRIBUTES
from fnbuild.function.function_rules import MAX_NAME_LENGTH
from fnbuild.function.labels import FUNCTION_KINDS, INTEGER_ANNOTATIONS
from fnbuild.function.platform_attributes import PlatformAttribute
from fnbuild.function.trigger_rules import MAX_WORKERS, SERVICE_TYPES
from fnbuild.function.types import Function, Resources, Struct
from fnbuild.runtime.protocols.mapping import EVENTS, PROTOCOLS
from fnbuild.runtime.protocols.tensors import DATATYPES

ANNOTATION_DESCRIPTIONS = {
    "name": "CVAT: the name that annotators see.",
    "type": "CVAT: the kind of the function.",
    "spec": "CVAT: the labels of a detector, as JSON text: a list of objects with a name.",
    "version": "CVAT: the version of the function's interface; it should be 2 for interactors.",
    "min_pos_points": "CVAT: the minimum of positive clicks before an interactor is called.",
    "min_neg_points": "CVAT: the minimum of negative clicks of an interactor; -1 disables them.",
    "startswith_box": 'CVAT: any non-empty text asks for a box first, even "false".',
    "startswith_box_optional": 'CVAT: any non-empty text offers a box, even "false".',
    "help_message": "CVAT: the text of an interactor's tooltip.",
    "animated_gif": "CVAT: the address of an image that shows how to use an interactor.",
    "supported_shape_types": "CVAT: the shapes that a tracker follows, separated by commas.",
    "framework": "The framework of the model, for information.",
    **access_schema.ANNOTATION_DESCRIPTIONS,
}

PROTOCOL_DESCRIPTIONS = {
    "protocols": "http: the protocols of model servers to serve.",
    "model": "http: the model's name in these protocols; by default the function's.",
    "version": "http: the model's version in these protocols; by default the revision's number.",
    "event": "http: one event for each instance of a request, or one for the whole request.",
    "inputs": "http: the input tensors of V2 and their places in the body of the event.",
    "outputs": "http: the output tensors of V2 and their places in the body of the reply.",
}

_TENSOR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "The name of the tensor."},
        "datatype": {"enum": list(DATATYPES), "description": "The type of its elements."},
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": -1},
            "description": "Its shape; -1 is any size, and first it counts the instances.",
        },
        "field": {
            "type": "string",
            "description": "Its place in the body of the event or reply; by default its name.",
        },
    },
    "required": ["name", "datatype"],
    "additionalProperties": False,
}

# Text fields accept every scalar that Nuclio converts to text.
_TEXT_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
_QUANTITY_SCHEMA = {"type": ["string", "number"]}
_MAPPING_SCHEMA = {"type": ["object", "null"]}

_NARROWER_TYPES: dict[str, dict[str, Any]] = {
    "Metadata.name": {
        "type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$", "maxLength": MAX_NAME_LENGTH
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


def build_schema() -> dict[str, Any]:
    """Return the schema as a JSON object."""
    definitions: dict[str, Any] = {}
    root = _struct_schema(Function, definitions)
    root["properties"]["apiVersion"] = {"description": "Ignored."}
    root["properties"]["kind"] = {"description": "Ignored."}
    annotations = definitions["Metadata"]["properties"]["annotations"]
    annotations["properties"] = _annotation_schemas()
    attributes = definitions["Trigger"]["properties"]["attributes"]
    attributes["properties"] = _protocol_attribute_schemas() | access_schema.ATTRIBUTES
    definitions["Tensor"] = _TENSOR_SCHEMA
    definitions |= access_schema.DEFINITIONS
    platform = definitions["Platform"]["properties"]["attributes"]
    platform["properties"] = {
        attribute.name: _settings_schema(attribute, definitions) for attribute in ATTRIBUTES
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "function.yaml",
        **root,
        "$defs": definitions,
    }


def _settings_schema(
    attribute: PlatformAttribute[Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    """Return the schema of settings, whose parts are added to the definitions."""
    template = "#/$defs/{name}"
    (schema,), parts = msgspec.json.schema_components([attribute.struct], ref_template=template)
    for name, part in parts.items():
        struct = getattr(inspect.getmodule(attribute.struct), name)
        texts = _field_descriptions(struct)
        names = {field.encode_name: field.name for field in msgspec.structs.fields(struct)}
        properties = {
            key: {**value, "description": texts[names[key]]}
            for key, value in part["properties"].items()
        }
        definitions[name] = {**part, "properties": properties, "additionalProperties": False}
    return {**schema, "description": f"Settings for {attribute.product}."}


def _annotation_schemas() -> dict[str, Any]:
    result: dict[str, Any] = {
        key: {**_TEXT_SCHEMA, "description": text} for key, text in ANNOTATION_DESCRIPTIONS.items()
    }
    result["type"] = {"enum": list(FUNCTION_KINDS), "description": ANNOTATION_DESCRIPTIONS["type"]}
    for key in INTEGER_ANNOTATIONS:
        whole = {"type": ["integer", "string"], "pattern": r"^\s*[+-]?\d+\s*$"}
        result[key] = {**whole, "description": ANNOTATION_DESCRIPTIONS[key]}
    settings = (
        sleep_settings.ANNOTATION_DESCRIPTIONS
        | gpu_group_settings.ANNOTATION_DESCRIPTIONS
        | record_settings.ANNOTATION_DESCRIPTIONS
    )
    for key, text in settings.items():
        result[key] = {"type": "string", "description": text}
    result[record_settings.RECORD]["type"] = ["boolean", "string"]
    for key in (gpu_group_settings.AWAKE, gpu_group_settings.WORKERS_PER_DEVICE):
        result[key] |= {"type": ["integer", "string"], "pattern": r"^\s*[1-9]\d*\s*$"}
    result[gpu_group_settings.PERMANENT] |= {
        "type": ["boolean", "string"],
        "pattern": "^(true|false)$",
    }
    result[sleep_settings.SLEEP_LEVEL]["enum"] = list(sleep_settings.SLEEP_LEVELS)
    return result


def _protocol_attribute_schemas() -> dict[str, Any]:
    """Return the schemas of the attributes of http triggers for the inference protocols."""
    protocols = {"type": "array", "items": {"enum": list(PROTOCOLS)}}
    tensors = {"type": "array", "items": {"$ref": "#/$defs/Tensor"}}
    return {
        name: {**schema, "description": PROTOCOL_DESCRIPTIONS[name]}
        for name, schema in (
            ("protocols", protocols),
            ("model", {"type": "string"}),
            ("version", {"type": "string"}),
            ("event", {"enum": list(EVENTS)}),
            ("inputs", tensors),
            ("outputs", tensors),
        )
    }


def _struct_schema(cls: type[Struct], definitions: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    descriptions = _field_descriptions(cls)
    for field in msgspec.structs.fields(cls):
        if field.name == "extra":
            continue
        name = f"{cls.__name__}.{field.encode_name}"
        value = dict(_NARROWER_TYPES.get(name) or _type_schema(field.type, definitions))
        if cls is Resources:
            value = {"type": ["object", "null"], "additionalProperties": _QUANTITY_SCHEMA}
        value["description"] = descriptions[field.name]
        properties[field.encode_name] = value
        if field.required:
            required.append(field.encode_name)
    result: dict[str, Any] = {"type": ["object", "null"], "properties": properties}
    if required:
        result["required"] = required
    return result


def _field_descriptions(cls: type[Struct]) -> dict[str, str]:
    """Return the docstrings of the fields, which Python does not keep, from the source."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    descriptions: dict[str, str] = {}
    for statement, following in itertools.pairwise(definition.body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(text))
            ):
                descriptions[name] = text
    return descriptions


def _type_schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = next(arm for arm in typing.get_args(kind) if arm is not type(None))
        return _type_schema(inner, definitions)
    simple: dict[Any, dict[str, Any]] = {
        str: _TEXT_SCHEMA,
        bool: {"type": ["boolean", "null"]},
        int: {"type": ["integer", "null"]},
        Any: {},
    }
    if kind in simple:
        return simple[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        if arguments[1] is Any:
            return _MAPPING_SCHEMA
        values = _type_schema(arguments[1], definitions)
        return {"type": ["object", "null"], "additionalProperties": values}
    if origin is list:
        return {"type": ["array", "null"], "items": _type_schema(arguments[0], definitions)}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}
        definitions[kind.__name__] = _struct_schema(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def schema_text() -> str:
    """Return the content of the schema's file."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Write the schema to the file in the arguments, or print it."""
    if arguments:
        Path(arguments[0]).write_text(schema_text(), encoding="utf-8")
    else:
        sys.stdout.write(schema_text())


if __name__ == "__main__":
    main(sys.argv[1:])
