"""Tabs in the indentation: where they are, and the spaces that stand for them."""

from __future__ import annotations

import re

import yaml

from fnbuild.spec.nodes import compose
from fnbuild.spec.source import Source

_FIX = "replace it with spaces: fnbuild validate --fix"
_INDENT = re.compile(r"[ \t]*")
_OPENS = re.compile(r"(:|[:-] +[|>][+-]?)\s*(#.*)?$")


def tab_row(source: Source, error: yaml.YAMLError) -> int | None:
    """The line (from 0) whose indentation holds the tab that this error is about, if it is one."""
    mark = getattr(error, "problem_mark", None)
    if mark is None or mark.line >= len(source.lines):
        return None
    line = source.lines[mark.line]
    indent = _INDENT.match(line)
    lead = indent.group() if indent else ""
    if "\t" in lead and mark.column <= len(lead):
        return int(mark.line)
    return None


def report_tab(source: Source, row: int) -> None:
    line = source.lines[row]
    column = line.index("\t")
    length = len(line) - len(line[column:].lstrip("\t")) - column
    message = "a tab in the indentation; YAML is indented with spaces"
    source.error("tab", message, source.span(row, column, row, column + length), _FIX)


class TabMender:
    """Mends tabs line by line. Lines that were indented alike stay so.

    `budget` is how many characters may be parsed in all while indentations are tried.
    """

    def __init__(self, budget: int = 600_000):
        self.budget = budget
        self.learned: dict[str, int] = {}

    def mend(self, source: Source, row: int) -> Source | None:
        """The text with this line indented by spaces so that the error moves on, if one fits."""
        line = source.lines[row]
        rest = line.lstrip(" \t")
        lead = line[: len(line) - len(rest)]
        for width in _widths(source, row, self.learned.get(lead)):
            self.budget -= len(source.text)
            if self.budget < 0:
                return None
            mended = with_line(source, row, " " * width + rest if rest else "")
            if _moves_on(mended, row):
                if rest:
                    self.learned[lead] = width
                return mended
        return None


def _moves_on(source: Source, row: int) -> bool:
    """Whether the text has no error up to this line."""
    try:
        compose(Source(source.text, source.file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return mark is not None and mark.line > row
    return True


def _widths(source: Source, row: int, learned: int | None) -> list[int]:
    """Indentations to try, the likeliest first."""
    line = source.lines[row]
    lead = line[: len(line) - len(line.lstrip(" \t"))]
    above = _width_of(source, range(row - 1, -1, -1))
    below = _width_of(source, range(row + 1, len(source.lines)))
    expanded = [len(lead.expandtabs(width)) for width in (8, 4, 2)]
    known = [width for width in (above, below) if width is not None]
    likely = [] if learned is None else [learned]
    before = next((text for text in reversed(source.lines[:row]) if text.strip()), "")
    if above is not None and _OPENS.search(before):
        # A line that ends with ':' or '|' has what belongs to it further in.
        likely += [above + 2, *(width for width in expanded if width > above)]
    likely += [width for width in expanded if width in known]
    return list(dict.fromkeys([*likely, *known, *expanded]))


def _width_of(source: Source, rows: range) -> int | None:
    for row in rows:
        line = source.lines[row]
        lead = line[: len(line) - len(line.lstrip(" \t"))]
        if line.strip() and "\t" not in lead:
            return len(lead)
    return None


def with_line(source: Source, row: int, line: str) -> Source:
    """A source that differs in one line, with the same report."""
    start = source.index(row, 0)
    text = source.text[:start] + line + source.text[start + len(source.lines[row]) :]
    return Source(text, source.file, source.report, source.line_offset, source.prefix)
