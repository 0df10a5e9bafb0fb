"""YAML as nodes that know their line and column, composed from libyaml's events with limits.

The composer is a loop with its own stack, so nesting cannot exhaust Python's; an alias counts as
much as what it stands for, so a few lines cannot grow into millions of values.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml._yaml import CParser

from fnbuild.errors import Span
from fnbuild.spec.scalars import Scalar, as_text, resolve
from fnbuild.spec.source import Source, shown

MAX_DEPTH = 100
MAX_VALUES = 20_000

_STR_TAG = "tag:yaml.org,2002:str"
_RESOLVED_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}


class Node:
    """A mapping (`pairs`), a list (`items`) or a scalar (`value`, and `text` as written)."""

    __slots__ = (
        "closed", "column", "end_column", "end_line", "height", "items", "kind", "line", "pairs",
        "size", "style", "text", "value",
    )  # fmt: skip

    def __init__(self, kind: str, line: int = -1, column: int = 0):
        self.kind = kind
        self.line = line
        self.column = column
        self.end_line = line
        self.end_column = column
        self.pairs: list[tuple[Node, Node]] = []
        self.items: list[Node] = []
        self.value: Scalar = None
        self.text = ""
        self.style: str | None = None
        self.size = 1
        self.height = 1
        self.closed = True

    def is_null(self) -> bool:
        return self.kind == "scalar" and self.value is None

    def span(self, source: Source) -> Span | None:
        """Where the node stands, or None for a value that came from no file."""
        if self.line < 0:
            return None
        return source.span(self.line, self.column, self.end_line, self.end_column)

    def plain(self) -> Any:
        """The value as plain JSON values."""
        if self.kind == "map":
            return {key.text: value.plain() for key, value in self.pairs}
        if self.kind == "list":
            return [item.plain() for item in self.items]
        return self.value


def from_value(value: Any, depth: int = 0) -> Node:
    """A tree without places, of plain JSON values. Raises ValueError when nested too deeply."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        node = Node("map")
        for key, item in value.items():
            name = Node("scalar")
            name.value = name.text = key if isinstance(key, str) else as_text(key)
            node.pairs.append((name, from_value(item, depth + 1)))
        return node
    if isinstance(value, list | tuple):
        node = Node("list")
        node.items = [from_value(item, depth + 1) for item in value]
        return node
    node = Node("scalar")
    node.value = value if isinstance(value, str | int | float | None) else str(value)
    node.text = as_text(node.value)
    return node


class _StopError(Exception):
    """A finding that ends the composing; it has been reported already."""


def compose(source: Source) -> Node | None:
    """The document's root; None when it is empty or a finding of kind error ended the reading.

    Raises yaml.YAMLError for bad syntax.
    """
    try:
        return _Composer(source).run()
    except _StopError:
        return None


class _Composer:
    def __init__(self, source: Source):
        self.source = source
        self.anchors: dict[str, Node] = {}
        self.stack: list[Node] = []
        # The key that waits for its value, for each open mapping.
        self.keys: list[Node | None] = []
        self.root: Node | None = None
        self.count = 0

    def run(self) -> Node | None:
        parser = CParser(self.source.text)
        documents = 0
        while True:
            event = parser.get_event()
            if isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event)
            elif isinstance(event, yaml.MappingStartEvent):
                self._open("map", event)
            elif isinstance(event, yaml.SequenceStartEvent):
                self._open("list", event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._second_document(event)
            elif event is None or isinstance(event, yaml.StreamEndEvent):
                return self.root

    def _stop(self, rule: str, message: str, mark: Any, hint: str | None = None) -> None:
        span = self.source.span(mark.line, mark.column)
        self.source.error(rule, message, span, hint)
        raise _StopError

    def _second_document(self, event: Any) -> None:
        if self.root is None or self.root.is_null():
            self.root = None
            return
        message = "a second YAML document starts here; a function has one"
        self._stop("many-documents", message, event.start_mark, "split the file at its '---' lines")

    def _scalar(self, event: Any) -> Node:
        node = _placed("scalar", event)
        node.text = event.value
        node.style = event.style or None
        if event.tag in _RESOLVED_TAGS or (event.implicit[0] and event.tag is None):
            node.value = resolve(event.value)
        else:
            node.value = event.value
        return node

    def _open(self, kind: str, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            self._stop("too-deep", message, event.start_mark)
        node = _placed(kind, event)
        node.closed = False
        self._add(node, event)
        self.stack.append(node)
        self.keys.append(None)

    def _close(self, event: Any) -> None:
        node = self.stack.pop()
        self.keys.pop()
        node.closed = True
        node.end_line, node.end_column = event.end_mark.line, event.end_mark.column
        if node.kind == "map":
            _merge_keys(node)
            self._report_duplicates(node)
        if self.stack:
            parent = self.stack[-1]
            parent.size += node.size - 1
            parent.height = max(parent.height, node.height + 1)

    def _alias(self, event: Any) -> None:
        target = self.anchors.get(event.anchor)
        name = shown(f"*{event.anchor}")
        if target is None:
            message = f"the alias {name} names no anchor above it"
            hint = "a text that starts with * needs quotes"
            self._stop("unknown-alias", message, event.start_mark, hint)
        elif not target.closed:
            message = f"the alias {name} stands inside what it names"
            self._stop("self-alias", message, event.start_mark)
        elif len(self.stack) + target.height > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep through aliases"
            self._stop("too-deep", message, event.start_mark)
        else:
            self._place(target, event, target.size)

    def _add(self, node: Node, event: Any) -> None:
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self._place(node, event, 1)

    def _place(self, node: Node, event: Any, size: int) -> None:
        """Hang a node under the open collection; `size` is what it adds to the whole."""
        self.count += size
        if self.count > MAX_VALUES:
            message = f"the file grows to more than {MAX_VALUES} values"
            self._stop("too-many-values", message, event.start_mark)
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.size += size
        parent.height = max(parent.height, node.height + 1)
        if parent.kind == "list":
            parent.items.append(node)
        elif self.keys[-1] is None:
            self._check_key(node, event)
            self.keys[-1] = node
        else:
            parent.pairs.append((self.keys[-1], node))
            self.keys[-1] = None

    def _check_key(self, node: Node, event: Any) -> None:
        if node.kind == "scalar":
            return
        message = "a key is a word, not a list or a mapping"
        hint = 'a text that starts with { or [ needs quotes, as in "{{ value }}"'
        self._stop("bad-key", message, event.start_mark, hint)

    def _report_duplicates(self, node: Node) -> None:
        if len(node.pairs) < 2:
            return
        seen: dict[str, Node] = {}
        for key, _ in node.pairs:
            first = seen.setdefault(key.text, key)
            if first is not key:
                span = key.span(self.source)
                line = first.line + 1 + self.source.line_offset
                message = f"the key {shown(key.text)} stands here and on line {line} already"
                self.source.error("duplicate-key", message, span, "keep one of the two")


def _placed(kind: str, event: Any) -> Node:
    start, end = event.start_mark, event.end_mark
    node = Node(kind, start.line, start.column)
    node.end_line, node.end_column = end.line, end.column
    return node


def _merge_keys(node: Node) -> None:
    """Put what a `<<` key names into the mapping, behind its own keys."""
    if not any(key.text == "<<" and key.style is None for key, _ in node.pairs):
        return
    own = [(k, v) for k, v in node.pairs if k.text != "<<" or k.style is not None]
    names = {key.text for key, _ in own}
    for key, value in node.pairs:
        if key.text != "<<" or key.style is not None:
            continue
        for source in value.items if value.kind == "list" else [value]:
            for inner, item in source.pairs:
                if inner.text not in names:
                    names.add(inner.text)
                    own.append((inner, item))
    node.pairs = own
