"""From a file's text to its tree, with YAML's own errors in words that help.

Tabs in the indentation are mended in memory, so the other findings of the file show as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from fnbuild.spec.indentation import fitting, is_too_deep, text_column
from fnbuild.spec.nodes import Node, compose
from fnbuild.spec.source import Source, conflict_markers, shown
from fnbuild.spec.tabs import TabMender, report_tab, tab_row

_UNFITTING = "the indentation of this line fits no key or item above it"
_ENDS = {'"': "closing quote", "'": "closing quote", "]": "closing bracket", "}": "closing brace"}
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
    mender = TabMender()
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
            mended = mender.mend(source, row)
            if mended is None:
                return None
            source = mended
            continue
        if root is None or root.is_null():
            if not source.report.errors:
                source.error("empty", "the file holds no values", source.span(0, 0))
            return None
        return root, source


@dataclass(frozen=True, slots=True)
class _Fault:
    """What libyaml says: the problem and its mark, and where what it belongs to began."""

    source: Source
    mark: Any
    context: Any
    line: str


@dataclass(frozen=True, slots=True)
class _Text:
    """A place as libyaml's marks are, counted from 0."""

    line: int
    column: int


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
    elif is_too_deep(source, row) and (columns := fitting(source, row)):
        message = "this line is indented further than what it stands beside"
        return message, columns, _Text(row, text_column(fault.line))
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
    before = fault.line[: fault.mark.column].rstrip()
    if before:
        end = _ENDS.get(before[-1], "value")
        return f"text follows the {end}", "put the whole value in quotes", fault.mark
    columns = fitting(fault.source, fault.mark.line)
    if columns is None and fault.line[fault.mark.column :].startswith("- "):
        return "an item of a list cannot stand beside keys", "a list has a key above it", fault.mark
    span = fault.source.span(fault.context.line, fault.context.column)
    hint = f"the keys beside it start in column {span.column} (line {span.line})"
    return _UNFITTING, columns or hint, fault.mark


def _dash(fault: _Fault) -> _Cause:
    columns = fitting(fault.source, fault.mark.line)
    if columns and not fault.line[: fault.mark.column].strip():
        return _UNFITTING, columns, fault.mark
    span = fault.source.span(fault.context.line, fault.context.column)
    hint = f"the list from line {span.line} has its '- ' in column {span.column}"
    return "a list item must start with '- '", hint, fault.mark


def _no_colon(fault: _Fault) -> _Cause:
    line = fault.source.lines[fault.context.line]
    hint = "a space is missing after the ':'" if _MISSING_SPACE.match(line) else None
    return "a key without its ':'", hint, fault.context


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
