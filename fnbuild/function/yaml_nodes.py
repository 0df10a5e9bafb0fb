"""YAML as nodes that know their line and column, composed from libyaml's events with limits.

The composer is a loop with its own stack, so deep nesting cannot exhaust Python's. An alias counts
as much as the value that it refers to, so a few lines cannot expand into millions of values.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from fnbuild.errors import Span
from fnbuild.function.source_text import SourceText, quoted
from fnbuild.function.yaml_scalars import Scalar, resolve_scalar, scalar_text

MAX_DEPTH = 100
MAX_VALUES = 20_000

_RESOLVED_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}


class YamlNode:
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
        self.pairs: list[tuple[YamlNode, YamlNode]] = []
        self.items: list[YamlNode] = []
        self.value: Scalar = None
        self.text = ""
        self.style: str | None = None
        self.size = 1
        self.height = 1
        self.closed = True

    def is_null(self) -> bool:
        return self.kind == "scalar" and self.value is None

    def span(self, source: SourceText) -> Span | None:
        """Return the span of the node, or None for a value that is not from a file."""
        if self.line < 0:
            return None
        return source.span(self.line, self.column, self.end_line, self.end_column)

    def to_value(self) -> Any:
        """Return the node as JSON values."""
        if self.kind == "map":
            return {key.text: value.to_value() for key, value in self.pairs}
        if self.kind == "list":
            return [item.to_value() for item in self.items]
        return self.value


def node_from_value(value: Any, depth: int = 0) -> YamlNode:
    """Return a tree of JSON values, without positions. Raises ValueError if nested too deeply."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        node = YamlNode("map")
        for key, item in value.items():
            name = YamlNode("scalar")
            name.value = name.text = key if isinstance(key, str) else scalar_text(key)
            node.pairs.append((name, node_from_value(item, depth + 1)))
        return node
    if isinstance(value, list | tuple):
        node = YamlNode("list")
        node.items = [node_from_value(item, depth + 1) for item in value]
        return node
    node = YamlNode("scalar")
    node.value = value if isinstance(value, str | int | float | None) else str(value)
    node.text = scalar_text(node.value)
    return node


class _ComposeStoppedError(Exception):
    """An error that ends the composition; it has been reported."""


def compose(source: SourceText) -> YamlNode | None:
    """Return the document's root, or None if the document is empty or after reporting an error.

    Raises yaml.YAMLError for invalid syntax.
    """
    try:
        return _Composer(source).run()
    except _ComposeStoppedError:
        return None


def compose_or_none(source: SourceText) -> YamlNode | None:
    """Return the document's root like `compose`, but None for invalid syntax, too."""
    try:
        return compose(source)
    except yaml.YAMLError:
        return None


class _Composer:
    def __init__(self, source: SourceText):
        self.source = source
        self.anchors: dict[str, YamlNode] = {}
        self.stack: list[YamlNode] = []
        # For each open mapping, the key whose value comes next.
        self.keys: list[YamlNode | None] = []
        self.root: YamlNode | None = None
        self.count = 0

    def run(self) -> YamlNode | None:
        parser = yaml.CBaseLoader(self.source.text)
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
        raise _ComposeStoppedError

    def _second_document(self, event: Any) -> None:
        if self.root is None or self.root.is_null():
            self.root = None
            return
        message = "a second YAML document starts here; a function has one"
        self._stop("many-documents", message, event.start_mark, "split the file at its '---' lines")

    def _scalar(self, event: Any) -> YamlNode:
        node = _node_at("scalar", event)
        node.text = event.value
        node.style = event.style or None
        if event.tag in _RESOLVED_TAGS or (event.implicit[0] and event.tag is None):
            node.value = resolve_scalar(event.value)
        else:
            node.value = event.value
        return node

    def _open(self, kind: str, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            self._stop("too-deep", message, event.start_mark)
        node = _node_at(kind, event)
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
        name = quoted(f"*{event.anchor}")
        if target is None:
            message = f"the alias {name} has no anchor above it"
            hint = "text that starts with * needs quotes"
            self._stop("unknown-alias", message, event.start_mark, hint)
        elif not target.closed:
            message = f"the alias {name} is inside of its own anchor"
            self._stop("self-alias", message, event.start_mark)
        elif len(self.stack) + target.height > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep because of aliases"
            self._stop("too-deep", message, event.start_mark)
        else:
            self._place(target, event, target.size)

    def _add(self, node: YamlNode, event: Any) -> None:
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self._place(node, event, 1)

    def _place(self, node: YamlNode, event: Any, size: int) -> None:
        """Add a node to the open collection; `size` is the number of values that it adds."""
        self.count += size
        if self.count > MAX_VALUES:
            message = f"the file expands to more than {MAX_VALUES} values"
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

    def _check_key(self, node: YamlNode, event: Any) -> None:
        if node.kind == "scalar":
            return
        message = "a key is a word, not a list or a mapping"
        hint = 'text that starts with { or [ needs quotes, as in "{{ value }}"'
        self._stop("bad-key", message, event.start_mark, hint)

    def _report_duplicates(self, node: YamlNode) -> None:
        if len(node.pairs) < 2:
            return
        seen: dict[str, YamlNode] = {}
        for key, _ in node.pairs:
            first = seen.setdefault(key.text, key)
            if first is not key:
                span = key.span(self.source)
                line = first.line + 1 + self.source.line_offset
                message = f"the key {quoted(key.text)} is already on line {line}"
                self.source.error("duplicate-key", message, span, "keep one of the two")


def _node_at(kind: str, event: Any) -> YamlNode:
    start, end = event.start_mark, event.end_mark
    node = YamlNode(kind, start.line, start.column)
    node.end_line, node.end_column = end.line, end.column
    return node


def _merge_keys(node: YamlNode) -> None:
    """Append the pairs of `<<` keys to the mapping's own pairs."""
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


_ESCAPED_CHARACTER = re.compile(
    r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|''|\S", re.DOTALL
)

_LONGEST_MAPPED_TEXT = 20_000


class EmbeddedText:
    """Maps positions in a scalar's text to spans in its file.

    A quoted or folded text of more than `longest` characters has one span: that of the whole value.
    """

    def __init__(self, source: SourceText, node: YamlNode, longest: int = _LONGEST_MAPPED_TEXT):
        self.source = source
        self.longest = longest
        self.node = node
        self.lines = node.text.split("\n")

    def whole_span(self) -> Span | None:
        """Return the span of the whole value."""
        return self.node.span(self.source)

    def span_at_index(self, index: int) -> Span | None:
        """Return the span of the character at `index` of the text."""
        before = self.node.text[:index]
        return self.span_at_position(before.count("\n"), index - before.rfind("\n") - 1)

    def span_at_position(self, line: int, column: int, length: int = 1) -> Span | None:
        """Return the span of `length` characters at a line and column (from 0) of the text."""
        if self.node.line < 0:
            return None
        if self.node.style == "|":
            row = self.node.line + 1 + line
            if row < len(self.source.lines) and line < len(self.lines):
                indent = len(self.source.lines[row]) - len(self.lines[line])
                if indent >= 0:
                    return self._span(row, indent + column, length)
            return self.whole_span()
        if len(self.node.text) > self.longest:
            return self.whole_span()
        return self._span_by_counting(line, column, length)

    def _span(self, row: int, column: int, length: int) -> Span:
        return self.source.span(row, column, row, column + length)

    def _span_by_counting(self, line: int, column: int, length: int) -> Span | None:
        # Folding and quoting change only white space, so the n-th other character is the same in
        # the text and in the file.
        before = "".join(self.lines[:line]) + self.lines[line][:column]
        remaining = len("".join(before.split()))
        row, start = self.node.line, self.node.column
        if self.node.style in ("'", '"'):
            start += 1
        elif self.node.style == ">":
            row, start = row + 1, 0
        last = min(self.node.end_line, len(self.source.lines) - 1)
        for number in range(row, last + 1):
            begin = start if number == row else 0
            for match in _ESCAPED_CHARACTER.finditer(self.source.lines[number], begin):
                if self._is_blank(match.group()):
                    continue
                if remaining <= 0:
                    return self._span(number, match.start(), length)
                remaining -= self._count(match.group())
        return self.whole_span()

    def _is_blank(self, written: str) -> bool:
        return self.node.style == '"' and written in ("\\n", "\\t", "\\r", "\\ ", "\\")

    def _count(self, written: str) -> int:
        if len(written) == 1 or (written == "''" and self.node.style == "'"):
            return 1
        return 1 if written[0] == "\\" and self.node.style == '"' else len(written)
