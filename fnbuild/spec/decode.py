"""From nodes to the structs of `spec.types`: values coerced as Nuclio does, findings in place.

What to do with a node follows from the struct's own field types, worked out once per type.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from fnbuild.spec import hints
from fnbuild.spec.nodes import Node
from fnbuild.spec.quantities import quantity
from fnbuild.spec.scalars import as_text
from fnbuild.spec.source import Source, has_room, shown
from fnbuild.spec.types import Resources, Struct

Path = tuple[str | int, ...]
Reader = Callable[["Decoder", Node, Path], Any]

WRONG = object()
"""Stands for a value whose type was wrong; the field keeps its default."""

_INT64 = 2**63


class Decoder:
    """Reads one tree.

    `places` remembers the key and the value node of every path. `unknown_keys` holds path, key and
    the keys that are known there; `needless_quotes` the values whose quotes make them wrong.
    """

    def __init__(self, source: Source, *, strict: bool = False):
        self.source = source
        self.strict = strict
        self.places: dict[Path, tuple[Node | None, Node]] = {}
        self.unknown_keys: list[tuple[Path, Node, tuple[str, ...]]] = []
        self.needless_quotes: list[Node] = []

    def read(self, cls: type[Struct], node: Node, path: Path = ()) -> Any:
        """A struct of this type; with findings of kind error, what could be read of it."""
        self.places[path] = (None, node)
        result = _struct(cls)(self, node, path)
        return cls() if result is WRONG else result

    def wrong(self, node: Node, path: Path, wanted: str, hint: str | None = None) -> Any:
        """Report a value of the wrong type."""
        name = _last_name(path)
        message = f"{name} must be {wanted}, not {_kind(node)}"
        self.source.error("wrong-type", message, node.span(self.source), hint)
        return WRONG

    def unknown(self, key: Node, path: Path, known: tuple[str, ...]) -> None:
        """Report a key that Nuclio ignores: a warning, or an error when strict."""
        self.unknown_keys.append((path, key, known))
        if not has_room(self.source.report, "error" if self.strict else "warning"):
            return
        message, hint = hints.unknown_key(path, key.text, known)
        report = self.source.error if self.strict else self.source.warning
        report("unknown-key", message, key.span(self.source), hint)


def _last_name(path: Path) -> str:
    if not path:
        return "the file"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {_last_name(path[:-1])}"
    return path[-1]


def _kind(node: Node) -> str:
    if node.kind == "map":
        return "a mapping"
    if node.kind == "list":
        return "a list"
    if node.value is None:
        return "empty"
    if isinstance(node.value, bool):
        return f"the boolean {shown(node.value)}"
    if isinstance(node.value, int | float):
        return f"the number {node.text}"
    return f"the text {shown(node.value)}"


def _text(decoder: Decoder, node: Node, path: Path) -> Any:
    if node.kind != "scalar":
        return decoder.wrong(node, path, "text", hints.text_from(path, node))
    if isinstance(node.value, str):
        return node.value
    text = as_text(node.value)
    # True → "true" surprises nobody; 3.10 → "3.1" and yes → "true" do.
    surprising = text != node.text and text != node.text.lower() and "resources" not in path
    if node.value is not None and surprising:
        message = f"{node.text} is read as {shown(text)} here, as Nuclio does"
        hint = f'quote it to keep the text: "{node.text}"'
        decoder.source.warning("unquoted", message, node.span(decoder.source), hint)
    return text


def _boolean(decoder: Decoder, node: Node, path: Path) -> Any:
    if isinstance(node.value, bool):
        return node.value
    hint = None
    if isinstance(node.value, str) and node.text.lower() in ("true", "false", "yes", "no"):
        hint = f"remove the quotes: {node.text.lower()}"
        decoder.needless_quotes.append(node)
    return decoder.wrong(node, path, "true or false", hint)


def _integer(decoder: Decoder, node: Node, path: Path) -> Any:
    value = node.value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if -_INT64 <= value < _INT64:
            return value
        return decoder.wrong(node, path, "a whole number of at most 64 bits")
    hint = None
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        hint = f"remove the quotes: {node.text.strip()}"
        decoder.needless_quotes.append(node)
    return decoder.wrong(node, path, "a whole number", hint)


def _anything(decoder: Decoder, node: Node, path: Path) -> Any:
    if node.kind == "map":
        return _mapping(_anything)(decoder, node, path)
    if node.kind == "list":
        return _list(_anything)(decoder, node, path)
    if isinstance(node.value, float) and not math.isfinite(node.value):
        return decoder.wrong(node, path, "a number that JSON can hold")
    return node.value


def _mapping(reader: Reader) -> Reader:
    def read(decoder: Decoder, node: Node, path: Path) -> Any:
        if node.is_null():
            return {}
        if node.kind != "map":
            return decoder.wrong(node, path, "a mapping", hints.mapping_from(path, node))
        result: dict[str, Any] = {}
        for key, value in node.pairs:
            place = (*path, key.text)
            decoder.places[place] = (key, value)
            item = reader(decoder, value, place)
            if item is not WRONG:
                result[key.text] = item
        return result

    return read


def _list(reader: Reader) -> Reader:
    def read(decoder: Decoder, node: Node, path: Path) -> Any:
        if node.is_null():
            return []
        if node.kind != "list":
            return decoder.wrong(node, path, "a list", hints.list_from(path, node))
        result = []
        for index, value in enumerate(node.items):
            place = (*path, index)
            decoder.places[place] = (None, value)
            item = reader(decoder, value, place)
            if item is not WRONG:
                result.append(item)
        return result

    return read


def _optional(reader: Reader) -> Reader:
    def read(decoder: Decoder, node: Node, path: Path) -> Any:
        return None if node.is_null() else reader(decoder, node, path)

    return read


class _Field(typing.NamedTuple):
    name: str
    wire: str
    reader: Reader
    nullable: bool


@cache
def _fields(cls: type[Struct]) -> dict[str, _Field]:
    """Readers of a struct's fields by lower-case wire name: Go matches keys in any case."""
    result = {}
    for field in msgspec.structs.fields(cls):
        if field.name != "extra":
            reader, nullable = _reader(field.type)
            entry = _Field(field.name, field.encode_name, reader, nullable)
            result[field.encode_name.lower()] = entry
    return result


@cache
def wire_names(cls: type[Struct]) -> tuple[str, ...]:
    """The keys of a struct as they are written in the file."""
    return tuple(field.wire for field in _fields(cls).values())


def _reader(kind: Any) -> tuple[Reader, bool]:
    """The reader for a field's type, and whether None is a value of it."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [arm for arm in typing.get_args(kind) if arm is not type(None)]
        return _optional(_reader(inner[0])[0]), True
    simple: dict[Any, Reader] = {str: _text, bool: _boolean, int: _integer, Any: _anything}
    if kind in simple:
        return simple[kind], False
    if typing.get_origin(kind) is dict:
        return _mapping(_reader(typing.get_args(kind)[1])[0]), False
    if typing.get_origin(kind) is list:
        return _list(_reader(typing.get_args(kind)[0])[0]), False
    return _struct(kind), False


@cache
def _struct(cls: type[Struct]) -> Reader:
    def read(decoder: Decoder, node: Node, path: Path) -> Any:
        if node.is_null() and path:
            return _build(cls, {}, decoder, node, path)
        if node.kind != "map":
            return decoder.wrong(node, path, "a mapping", hints.mapping_from(path, node))
        return _build(cls, _values(cls, decoder, node, path), decoder, node, path)

    return read


def _values(cls: type[Struct], decoder: Decoder, node: Node, path: Path) -> dict[str, Any]:
    fields = _fields(cls)
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    seen: dict[str, Node] = {}
    for key, value in node.pairs:
        field = fields.get(key.text.lower())
        place = (*path, field.wire if field else key.text)
        decoder.places[place] = (key, value)
        if field is None:
            if not path and key.text in ("apiVersion", "kind"):
                continue
            decoder.unknown(key, path, wire_names(cls))
            item = _anything(decoder, value, place)
            if item is not WRONG:
                extra[key.text] = item
            continue
        first = seen.setdefault(field.wire, key)
        if first is not key and first.text != key.text:
            message = f"{key.text} and {first.text} are the same key; case does not matter"
            decoder.source.error("duplicate-key", message, key.span(decoder.source))
        if value.is_null() and not field.nullable:
            continue
        item = field.reader(decoder, value, place)
        if item is not WRONG:
            values[field.name] = item
    if extra:
        values["extra"] = extra
    return values


def _build(
    cls: type[Struct], values: dict[str, Any], decoder: Decoder, node: Node, path: Path
) -> Any:
    for field in _required(cls):
        if not values.get(field):
            message = f"{_last_name(path)} has no {field}"
            decoder.source.error("missing-key", message, node.span(decoder.source))
            return WRONG
    if cls is Resources:
        _quantities(decoder, values, path)
    return cls(**values)


@cache
def _required(cls: type[Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(cls) if field.required)


def _quantities(decoder: Decoder, values: dict[str, Any], path: Path) -> None:
    for side in ("limits", "requests"):
        for name, text in values.get(side, {}).items():
            fault = ""
            try:
                if quantity(text) < 0:
                    fault = f"{side} of {name} is negative: {text}"
            except ValueError as error:
                fault = f"{side} of {name}: {error}"
            if fault:
                node = decoder.places[(*path, side, name)][1]
                decoder.source.error("bad-quantity", fault, node.span(decoder.source))
