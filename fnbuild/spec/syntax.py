"""From a file's text to its tree, with YAML's own errors in words that help.

Tabs in the indentation are mended in memory, so the other findings of the file show as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from fnbuild.spec.nodes import Node, compose
from fnbuild.spec.source import Source, conflict_markers, shown

_FIX = "replace it with spaces: fnbuild validate --fix"
_MAX_TABS = 30
_MAX_WORK = 4_000_000
"""Characters that are parsed again at most while tabs are mended."""

_INDENT = re.compile(r"[ \t]*")
_OPENS = re.compile(r"(:|[:-] +[|>][+-]?)\s*(#.*)?$")
_MISSING_SPACE = re.compile(r"\s*(- )?[A-Za-z_][\w.-]*:(?=[^\s/])")


def read_tree(source: Source) -> tuple[Node, Source] | None:
    """The root of a file's tree, or None; the source's report says what is wrong with it.

    The source that comes back is the one that the nodes' places belong to: the tabs are mended.
    """
    if conflict_markers(source):
        return None
    if not source.text.strip():
        source.error("empty", "the file is empty", source.span(0, 0))
        return None
    return _read(source)


def _read(source: Source) -> tuple[Node, Source] | None:
    work, tabs = len(source.text), 0
    learned: dict[str, int] = {}
    while True:
        before = len(source.report)
        try:
            root = compose(source)
        except yaml.YAMLError as error:
            # What was found before the error comes again when the mended text is read.
            del source.report.diagnostics[before:]
            row = tab_row(source, error)
            if row is None:
                explain(source, error)
                return None
            report_tab(source, row)
            tabs += 1
            mended = mend_tab(source, row, learned)
            work += len(source.text)
            if mended is None or tabs >= _MAX_TABS or work > _MAX_WORK:
                return None
            source = mended
            continue
        if root is None or root.is_null():
            if not source.report.errors:
                source.error("empty", "the file holds no values", source.span(0, 0))
            return None
        return root, source


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


def mend_tab(source: Source, row: int, learned: dict[str, int]) -> Source | None:
    """The text with this line indented by spaces so that the error moves on; None if none fits.

    `learned` remembers what an indentation with tabs became, so that lines stay side by side.
    """
    line = source.lines[row]
    rest = line.lstrip(" \t")
    lead = line[: len(line) - len(rest)]
    for width in _widths(source, row, learned.get(lead)):
        mended = with_line(source, row, " " * width + rest if rest else "")
        try:
            compose(Source(mended.text, mended.file))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            if mark is None or mark.line <= row:
                continue
        if rest:
            learned[lead] = width
        return mended
    return None


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


@dataclass(frozen=True, slots=True)
class _Fault:
    """What libyaml says: the problem and its mark, and where what it belongs to began."""

    source: Source
    mark: Any
    context: Any
    line: str


_Cause = tuple[str, str | None, Any]
"""Message, remedy and mark of a syntax error."""


def explain(source: Source, error: yaml.YAMLError) -> None:
    """Report a syntax error where it is, with its likely cause."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", "") or error)
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        source.error("syntax", f"this is not YAML: {problem}", None)
        return
    context = getattr(error, "context_mark", None) or mark
    line = source.lines[mark.line] if mark.line < len(source.lines) else ""
    fault = _Fault(source, mark, context, line)
    message, hint, place = next(
        (cause(fault) for start, cause in _CAUSES if problem.startswith(start)),
        (problem, None, mark),
    )
    last = len(source.lines) - 1
    row, column = min((place.line, place.column), (last, len(source.lines[last])))
    source.error("syntax", message, source.span(row, column), hint)


def _colon(fault: _Fault) -> _Cause:
    source, row = fault.source, fault.mark.line
    hint = "check the indentation of this line"
    above = next((r for r in range(row - 1, -1, -1) if source.lines[r].strip()), None)
    if ": " in fault.line[: fault.mark.column]:
        hint = "a value with ': ' in it needs quotes"
    elif above is not None and _MISSING_SPACE.match(source.lines[above]):
        hint = f"a space is missing after the ':' on line {above + 1 + source.line_offset}"
    elif above is not None and ":" not in source.lines[above]:
        hint = f"a ':' is missing on line {above + 1 + source.line_offset}"
    return "a ':' cannot stand here", hint, fault.mark


def _start(fault: _Fault) -> _Cause:
    character = fault.line[fault.mark.column : fault.mark.column + 1]
    hint = f"a text that starts with {shown(character)} needs quotes"
    return f"a value cannot start with {shown(character)}", hint, fault.mark


def _open_quote(fault: _Fault) -> _Cause:
    return "the quote that opens here is never closed", None, fault.context


def _escape(fault: _Fault) -> _Cause:
    written = fault.line[fault.mark.column : fault.mark.column + 2]
    hint = "a backslash has a meaning in double quotes; use single quotes"
    return f"unknown escape {shown(written)}", hint, fault.mark


def _flow(fault: _Fault) -> _Cause:
    opening = fault.source.lines[fault.context.line][fault.context.column :]
    number = fault.context.line + 1 + fault.source.line_offset
    if fault.mark.line > fault.context.line and opening.strip() in ("{", "["):
        message = f"a comma or the end of the {opening[0]} that opens on line {number} is missing"
        return message, None, fault.mark
    hint = "a text that starts with { or [ needs quotes"
    return f"the {opening[:1]} that opens here is never closed", hint, fault.context


def _key(fault: _Fault) -> _Cause:
    if fault.line[: fault.mark.column].rstrip().endswith(('"', "'")):
        return "text follows the closing quote", "put the whole value in quotes", fault.mark
    number = fault.context.line + 1 + fault.source.line_offset
    hint = f"the keys beside it start in column {fault.context.column + 1} (line {number})"
    return "the indentation of this line fits no key above it", hint, fault.mark


def _dash(fault: _Fault) -> _Cause:
    number = fault.context.line + 1 + fault.source.line_offset
    hint = f"the list from line {number} has its '- ' in column {fault.context.column + 1}"
    return "a list item must start with '- '", hint, fault.mark


def _no_colon(fault: _Fault) -> _Cause:
    return "a key without its ':'", None, fault.context


_CAUSES: tuple[tuple[str, Callable[[_Fault], _Cause]], ...] = (
    ("mapping values are not allowed", _colon),
    ("found character that cannot start", _start),
    ("found unexpected end of stream", _open_quote),
    ("found unknown escape character", _escape),
    ("did not find expected ','", _flow),
    ("did not find expected key", _key),
    ("did not find expected '-'", _dash),
    ("could not find expected ':'", _no_colon),
)
