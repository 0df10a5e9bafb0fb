"""Validation of manifests against the schemas of KServe's CustomResourceDefinitions."""

from __future__ import annotations

import functools
import json
import lzma
from pathlib import Path
from typing import Any

import jsonschema

_FOLDER = Path(__file__).parents[2] / "data" / "kserve"
_FILES = {
    "InferenceService": "inferenceservices",
    "ServingRuntime": "servingruntimes",
    "ClusterServingRuntime": "clusterservingruntimes",
}
CRD_KINDS = tuple(_FILES)


@functools.cache
def load_crd(kind: str) -> dict[str, Any]:
    """Return the definition of a kind."""
    return json.loads(lzma.decompress((_FOLDER / f"{_FILES[kind]}.json.xz").read_bytes()))


def schema_errors(manifest: dict[str, Any]) -> list[str]:
    """Return the violations of the schema, unknown fields included."""
    validator = _validator(manifest["kind"], manifest["apiVersion"].partition("/")[2])
    errors = sorted(validator.iter_errors(manifest), key=lambda error: list(map(str, error.path)))
    return [f"{error.json_path}: {error.message}" for error in errors]


@functools.cache
def _validator(kind: str, version: str) -> jsonschema.Draft7Validator:
    definition = load_crd(kind)
    versions = {item["name"]: item for item in definition["spec"]["versions"]}
    schema = _strict(versions[version]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft7Validator(schema)


def _strict(schema: Any) -> Any:
    """Return a JSON Schema that refuses unknown fields, as strict validation does."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    properties = schema.get("properties")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(properties, dict) and "type" in schema and not is_open:
        result.setdefault("additionalProperties", False)
    return result
