"""Places inside a text that is itself a value of the YAML file: JSON in an annotation."""

from __future__ import annotations

import re

from fnbuild.errors import Span
from fnbuild.spec.nodes import Node
from fnbuild.spec.source import Source

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|''|\S", re.DOTALL)

_LONGEST_COUNTED = 20_000


class Embedded:
    """Maps places of a scalar's text to places of the file it stands in.

    A quoted or folded text of more than `longest` characters has one place, its beginning.
    """

    def __init__(self, source: Source, node: Node, longest: int = _LONGEST_COUNTED):
        self.source = source
        self.longest = longest
        self.node = node
        self.lines = node.text.split("\n")

    def whole(self) -> Span | None:
        """The first line of the value: its key's line says which value it is."""
        return self.node.span(self.source)

    def at_index(self, index: int, length: int = 1) -> Span | None:
        """The span of a character of the text, given by its index."""
        before = self.node.text[:index]
        return self.at(before.count("\n"), index - before.rfind("\n") - 1, length)

    def at(self, line: int, column: int, length: int = 1) -> Span | None:
        """The span of `length` characters at a line and column (from 0) of the text."""
        if self.node.line < 0:
            return None
        if self.node.style == "|":
            row = self.node.line + 1 + line
            if row < len(self.source.lines) and line < len(self.lines):
                indent = len(self.source.lines[row]) - len(self.lines[line])
                if indent >= 0:
                    return self._span(row, indent + column, length)
            return self.whole()
        if len(self.node.text) > self.longest:
            return self.whole()
        return self._by_count(line, column, length)

    def _span(self, row: int, column: int, length: int) -> Span:
        return self.source.span(row, column, row, column + length)

    def _by_count(self, line: int, column: int, length: int) -> Span | None:
        # Folding and quoting move blanks about but leave the order of everything else, so the
        # n-th character that is no blank is the same one in the text and in the file.
        before = "".join(self.lines[:line]) + self.lines[line][:column]
        wanted = len("".join(before.split()))
        row, start = self.node.line, self.node.column
        if self.node.style in ("'", '"'):
            start += 1
        elif self.node.style == ">":
            row, start = row + 1, 0
        last = min(self.node.end_line, len(self.source.lines) - 1)
        for number in range(row, last + 1):
            begin = start if number == row else 0
            for found in _ESCAPE.finditer(self.source.lines[number], begin):
                if self._is_blank(found.group()):
                    continue
                if wanted <= 0:
                    return self._span(number, found.start(), length)
                wanted -= self._count(found.group())
        return self.whole()

    def _is_blank(self, mark: str) -> bool:
        return self.node.style == '"' and mark in ("\\n", "\\t", "\\r", "\\ ", "\\")

    def _count(self, mark: str) -> int:
        if len(mark) == 1 or (mark == "''" and self.node.style == "'"):
            return 1
        return 1 if mark[0] == "\\" and self.node.style == '"' else len(mark)
