"""Where in a configuration file a value stands, by its path such as `spec.build.commands[2]`."""

from __future__ import annotations

import re

from fnbuild.errors import Span
from fnbuild.spec.nodes import Node
from fnbuild.spec.source import Source
from fnbuild.spec.syntax import read_tree

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def span_of(text: str, file: str, place: str) -> Span | None:
    """The place of a value in the text of `file`; None when it does not stand there.

    Keys match whatever their case, as in Nuclio (pkg/functionconfig/reader.go).
    """
    read = read_tree(Source(text, file))
    if read is None:
        return None
    node, source = read
    for key, index in _PART.findall(place):
        found = _item(node, int(index)) if index else _value(node, key)
        if found is None:
            return None
        node = found
    return source.span(node.line, node.column, node.end_line, node.end_column)


def _value(node: Node, key: str) -> Node | None:
    pairs = node.pairs if node.kind == "map" else []
    return next((value for name, value in pairs if name.text.lower() == key.lower()), None)


def _item(node: Node, index: int) -> Node | None:
    items = node.items if node.kind == "list" else []
    return items[index] if index < len(items) else None
