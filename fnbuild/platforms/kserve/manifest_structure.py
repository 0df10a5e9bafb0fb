"""The structure of KServe's objects: their fields and the types of the values.

`manifest_structure.json` has the part of KServe's CustomResourceDefinitions that says this. A shape
is the name of a type, `#NAME` for a shape of `definitions`, a list with the shape of the items,
`{"*": shape}` for a map, `{"=": texts}` for a choice, or an object with the shape of each field and
the names of required ones as `!`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import did_you_mean
from fnbuild.function.yaml_nodes import YamlNode

_HEAD = {"apiVersion": "string", "kind": "string", "status": "any"}
_METADATA = {
    "name": "string", "generateName": "string", "namespace": "string",
    "labels": {"*": "string"}, "annotations": {"*": "string"}, "finalizers": ["string"],
    "ownerReferences": "any", "managedFields": "any", "uid": "string", "generation": "integer",
    "resourceVersion": "string", "creationTimestamp": "any", "deletionTimestamp": "any",
    "deletionGracePeriodSeconds": "integer", "selfLink": "string",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "int-or-string": (int, str),
}
_TYPE_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "int-or-string": "a whole number or text",
}


@dataclass(frozen=True, slots=True)
class StructureProblem:
    """A field or a value that a definition does not allow; `node` is its place in the file."""

    rule: str
    node: YamlNode
    message: str
    hint: str | None = None


@cache
def manifest_shapes() -> dict[str, Any]:
    """Return the shapes of the specs by kind and version, and the definitions."""
    content = files("fnbuild.platforms.kserve").joinpath("manifest_structure.json").read_text()
    return dict(json.loads(content))


def api_versions() -> dict[str, str]:
    """Return the version of each kind that KServe serves."""
    return dict(key.split("/") for key in manifest_shapes()["specs"])


def structure_problems(root: YamlNode, kind: str) -> Iterator[StructureProblem]:
    """Yield what the API server would refuse in an object of this kind."""
    spec = manifest_shapes()["specs"][f"{kind}/{api_versions()[kind]}"]
    yield from _check(root, {**_HEAD, "metadata": _METADATA, "spec": spec}, "")


def _check(node: YamlNode, shape: Any, place: str) -> Iterator[StructureProblem]:
    if isinstance(shape, str) and shape.startswith("#"):
        shape = manifest_shapes()["definitions"][shape[1:]]
    # The API server drops values of null.
    if shape == "any" or node.is_null():
        return
    if isinstance(shape, list):
        yield from _check_list(node, shape[0], place)
    elif isinstance(shape, str) or "=" in shape:
        yield from _check_scalar(node, shape, place)
    elif node.kind != "map":
        yield _wrong_type(node, place, "a mapping")
    elif "*" in shape:
        for key, value in node.pairs:
            yield from _check(value, shape["*"], f"{place}.{key.text}")
    else:
        yield from _check_fields(node, shape, place)


def _check_fields(node: YamlNode, shape: dict[str, Any], place: str) -> Iterator[StructureProblem]:
    fields = [name for name in shape if name != "!"]
    for key, value in node.pairs:
        if key.text in fields:
            yield from _check(value, shape[key.text], f"{place}.{key.text}".lstrip("."))
        else:
            owner = place or "the object"
            message = f"{owner} has no field {quoted(key.text)}"
            hint = did_you_mean(key.text, fields) or "remove it"
            yield StructureProblem("unknown-key", key, message, hint)
    written = {key.text for key, value in node.pairs if not value.is_null()}
    for name in shape.get("!", ()):
        if name not in written:
            yield StructureProblem("missing", node, f"{place or 'the object'} has no {name}")


def _check_list(node: YamlNode, shape: Any, place: str) -> Iterator[StructureProblem]:
    if node.kind != "list":
        yield _wrong_type(node, place, "a list", "start each item with a dash")
        return
    for index, item in enumerate(node.items):
        yield from _check(item, shape, f"{place}[{index}]")


def _check_scalar(node: YamlNode, shape: Any, place: str) -> Iterator[StructureProblem]:
    kind = shape if isinstance(shape, str) else "string"
    value = node.value
    fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if node.kind != "scalar" or not fits:
        takes_text = node.kind == "scalar" and str in _TYPES[kind]
        hint = f'write it in quotes: "{node.text}"' if takes_text else None
        yield _wrong_type(node, place, _TYPE_NAMES[kind], hint)
    elif isinstance(shape, dict) and value not in shape["="]:
        message = f"{place}: {quoted(value)} is not one of {', '.join(shape['='])}"
        yield StructureProblem("invalid-value", node, message, did_you_mean(node.text, shape["="]))


def _wrong_type(
    node: YamlNode, place: str, expected: str, hint: str | None = None
) -> StructureProblem:
    actual = {"map": "a mapping", "list": "a list"}.get(node.kind, quoted(node.value))
    message = f"{place or 'the object'} is {expected}, not {actual}"
    return StructureProblem("wrong-type", node, message, hint)
