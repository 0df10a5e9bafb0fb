"""Decode YAML nodes into the structs of `function.types`, converting values as Nuclio does.

The reader of a node follows from the field types of its struct, and is created once per type.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from fnbuild.function import suggestions
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.source_text import SourceText, has_room, quoted
from fnbuild.function.types import FieldPath, Resources, Struct
from fnbuild.function.yaml_nodes import YamlNode
from fnbuild.function.yaml_scalars import scalar_text

NodeReader = Callable[["Decoder", YamlNode, FieldPath], Any]

INVALID = object()
"""Represents a value of the wrong type; the field keeps its default."""

_INT64 = 2**63


class Decoder:
    """Decodes one tree.

    `nodes` has the key and the value node of every path. `unknown_keys` has path, key and the keys
    that exist there. `needless_quotes` are values that are invalid because of their quotes.
    """

    def __init__(self, source: SourceText, *, strict: bool = False):
        self.source = source
        self.strict = strict
        self.nodes: dict[FieldPath, tuple[YamlNode | None, YamlNode]] = {}
        self.unknown_keys: list[tuple[FieldPath, YamlNode, tuple[str, ...]]] = []
        self.needless_quotes: list[YamlNode] = []

    def read(self, cls: type[Struct], node: YamlNode, path: FieldPath = ()) -> Any:
        """Return a struct of this type with all values that can be read."""
        self.nodes[path] = (None, node)
        result = _struct_reader(cls)(self, node, path)
        return cls() if result is INVALID else result

    def report_wrong_type(
        self, node: YamlNode, path: FieldPath, wanted: str, hint: str | None = None
    ) -> Any:
        """Report a value of the wrong type."""
        name = _describe_field(path)
        message = f"{name} must be {wanted}, not {_describe_node(node)}"
        self.source.error("wrong-type", message, node.span(self.source), hint)
        return INVALID

    def report_unknown_key(self, key: YamlNode, path: FieldPath, valid: tuple[str, ...]) -> None:
        """Report a key that Nuclio ignores: as an error if strict, else as a warning."""
        self.unknown_keys.append((path, key, valid))
        if not has_room(self.source.report, "error" if self.strict else "warning"):
            return
        message, hint = suggestions.unknown_key_message(path, key.text, valid)
        report = self.source.error if self.strict else self.source.warning
        report("unknown-key", message, key.span(self.source), hint)


def _describe_field(path: FieldPath) -> str:
    if not path:
        return "the file"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {_describe_field(path[:-1])}"
    return path[-1]


def _describe_node(node: YamlNode) -> str:
    if node.kind == "map":
        return "a mapping"
    if node.kind == "list":
        return "a list"
    if node.value is None:
        return "empty"
    if isinstance(node.value, bool):
        return f"the boolean {quoted(node.value)}"
    if isinstance(node.value, int | float):
        return f"the number {node.text}"
    return f"the text {quoted(node.value)}"


def _read_text(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
    if node.kind != "scalar":
        return decoder.report_wrong_type(
            node, path, "text", suggestions.hint_if_not_text(path, node)
        )
    if isinstance(node.value, str):
        return node.value
    text = scalar_text(node.value)
    # True → "true" is expected; 3.10 → "3.1" and yes → "true" are not.
    surprising = text != node.text and text != node.text.lower() and "resources" not in path
    if node.value is not None and surprising:
        message = f"{node.text} is read as {quoted(text)} here, as Nuclio does"
        hint = f'quote it to keep the text: "{node.text}"'
        decoder.source.warning("unquoted", message, node.span(decoder.source), hint)
    return text


def _read_boolean(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
    if isinstance(node.value, bool):
        return node.value
    hint = None
    if isinstance(node.value, str) and node.text.lower() in ("true", "false", "yes", "no"):
        hint = f"remove the quotes: {node.text.lower()}"
        decoder.needless_quotes.append(node)
    return decoder.report_wrong_type(node, path, "true or false", hint)


def _read_integer(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
    value = node.value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if -_INT64 <= value < _INT64:
            return value
        return decoder.report_wrong_type(node, path, "a whole number of at most 64 bits")
    hint = None
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        hint = f"remove the quotes: {node.text.strip()}"
        decoder.needless_quotes.append(node)
    return decoder.report_wrong_type(node, path, "a whole number", hint)


def _read_any(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
    if node.kind == "map":
        return _mapping_reader(_read_any)(decoder, node, path)
    if node.kind == "list":
        return _list_reader(_read_any)(decoder, node, path)
    if isinstance(node.value, float) and not math.isfinite(node.value):
        return decoder.report_wrong_type(node, path, "a number that JSON can hold")
    return node.value


def _reject_non_mapping(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
    hint = suggestions.hint_if_not_mapping(path, node)
    return decoder.report_wrong_type(node, path, "a mapping", hint)


def _mapping_reader(reader: NodeReader) -> NodeReader:
    def read(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
        if node.is_null():
            return {}
        if node.kind != "map":
            return _reject_non_mapping(decoder, node, path)
        result: dict[str, Any] = {}
        for key, value in node.pairs:
            item_path = (*path, key.text)
            decoder.nodes[item_path] = (key, value)
            item = reader(decoder, value, item_path)
            if item is not INVALID:
                result[key.text] = item
        return result

    return read


def _list_reader(reader: NodeReader) -> NodeReader:
    def read(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
        if node.is_null():
            return []
        if node.kind != "list":
            hint = suggestions.hint_if_not_list(path, node)
            return decoder.report_wrong_type(node, path, "a list", hint)
        result = []
        for index, value in enumerate(node.items):
            item_path = (*path, index)
            decoder.nodes[item_path] = (None, value)
            item = reader(decoder, value, item_path)
            if item is not INVALID:
                result.append(item)
        return result

    return read


def _optional_reader(reader: NodeReader) -> NodeReader:
    def read(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
        return None if node.is_null() else reader(decoder, node, path)

    return read


class _Field(typing.NamedTuple):
    name: str
    encoded_name: str
    reader: NodeReader
    nullable: bool


@cache
def _fields(cls: type[Struct]) -> dict[str, _Field]:
    """Return the fields of a struct by their encoded names in lower case: Go ignores case."""
    result = {}
    for field in msgspec.structs.fields(cls):
        if field.name != "extra":
            reader, nullable = _reader_for(field.type)
            entry = _Field(field.name, field.encode_name, reader, nullable)
            result[field.encode_name.lower()] = entry
    return result


@cache
def encoded_names(cls: type[Struct]) -> tuple[str, ...]:
    """Return the keys of a struct as they are written in the file."""
    return tuple(field.encoded_name for field in _fields(cls).values())


def _reader_for(kind: Any) -> tuple[NodeReader, bool]:
    """Return the reader for a field's type, and True if the type includes None."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [arm for arm in typing.get_args(kind) if arm is not type(None)]
        return _optional_reader(_reader_for(inner[0])[0]), True
    simple: dict[Any, NodeReader] = {
        str: _read_text,
        bool: _read_boolean,
        int: _read_integer,
        Any: _read_any,
    }
    if kind in simple:
        return simple[kind], False
    if typing.get_origin(kind) is dict:
        return _mapping_reader(_reader_for(typing.get_args(kind)[1])[0]), False
    if typing.get_origin(kind) is list:
        return _list_reader(_reader_for(typing.get_args(kind)[0])[0]), False
    return _struct_reader(kind), False


@cache
def _struct_reader(cls: type[Struct]) -> NodeReader:
    def read(decoder: Decoder, node: YamlNode, path: FieldPath) -> Any:
        if node.is_null() and path:
            return _build_struct(cls, {}, decoder, node, path)
        if node.kind != "map":
            return _reject_non_mapping(decoder, node, path)
        return _build_struct(cls, _field_values(cls, decoder, node, path), decoder, node, path)

    return read


def _field_values(
    cls: type[Struct], decoder: Decoder, node: YamlNode, path: FieldPath
) -> dict[str, Any]:
    fields = _fields(cls)
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    seen: dict[str, YamlNode] = {}
    for key, value in node.pairs:
        field = fields.get(key.text.lower())
        item_path = (*path, field.encoded_name if field else key.text)
        decoder.nodes[item_path] = (key, value)
        if field is None:
            if not path and key.text in ("apiVersion", "kind"):
                continue
            decoder.report_unknown_key(key, path, encoded_names(cls))
            item = _read_any(decoder, value, item_path)
            if item is not INVALID:
                extra[key.text] = item
            continue
        first = seen.setdefault(field.encoded_name, key)
        if first is not key and first.text != key.text:
            message = f"{key.text} and {first.text} are the same key; case does not matter"
            decoder.source.error("duplicate-key", message, key.span(decoder.source))
        if value.is_null() and not field.nullable:
            continue
        item = field.reader(decoder, value, item_path)
        if item is not INVALID:
            values[field.name] = item
    if extra:
        values["extra"] = extra
    return values


def _build_struct(
    cls: type[Struct], values: dict[str, Any], decoder: Decoder, node: YamlNode, path: FieldPath
) -> Any:
    for field in _required_fields(cls):
        if not values.get(field):
            message = f"{_describe_field(path)} has no {field}"
            decoder.source.error("missing-key", message, node.span(decoder.source))
            return INVALID
    if cls is Resources:
        _check_quantities(decoder, values, path)
    return cls(**values)


@cache
def _required_fields(cls: type[Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(cls) if field.required)


def _check_quantities(decoder: Decoder, values: dict[str, Any], path: FieldPath) -> None:
    for side in ("limits", "requests"):
        for name, text in values.get(side, {}).items():
            message = ""
            try:
                if parse_quantity(text) < 0:
                    message = f"{side} of {name} is negative: {text}"
            except ValueError as error:
                message = f"{side} of {name}: {error}"
            if message:
                node = decoder.nodes[(*path, side, name)][1]
                decoder.source.error("bad-quantity", message, node.span(decoder.source))
