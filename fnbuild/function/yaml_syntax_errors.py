"""Explain the syntax errors of libyaml: the likely cause and its position."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from fnbuild.function.source_text import SourceText, quoted

_INDENTED_LINE = re.compile(r"(?P<lead> *)(?P<dashes>(?:- +)*)(?P<rest>.*)")
_KEY_PATTERN = re.compile(r"(?![#{\[&*!|>%@`]).*?:(?=\s|$)(?P<value>.*)")
_BLOCK_SCALAR = re.compile(r"\s*[|>][-+0-9]*\s*(#.*)?$")
_NO_VALUE = re.compile(r"\s*(#.*)?$")


@dataclass(frozen=True, slots=True)
class _BlockStart:
    """The position of a key or, with `dash`, of a list item. `value` is the text after it."""

    row: int
    column: int
    dash: bool
    value: str = ""


def _text_column(line: str) -> int:
    """Return the column, from 0, where the line's text starts."""
    return len(line) - len(line.lstrip(" "))


def _fitting_columns(source: SourceText, row: int) -> str | None:
    """Return a hint about the columns where a key or an item in this row could start.

    None if it starts in one of them, or if the row has no key or item.
    """
    starts = _block_starts(source.lines[row], row)
    if not starts:
        return None
    first = starts[0]
    columns = {
        start.column: start
        for start in _open_blocks(source.lines[:row])
        if start.dash == first.dash
    }
    right = min((column for column in columns if column > first.column), default=None)
    left = max((column for column in columns if column < first.column), default=None)
    if first.column in columns or right == left:
        return None
    places = [_describe(source, columns[column]) for column in (right, left) if column is not None]
    return f"the {'items' if first.dash else 'keys'} above it start in {' or '.join(places)}"


def _is_indented_too_far(source: SourceText, row: int) -> bool:
    """Return True if the row is indented more than the key or item above it, which has a value."""
    above = next((r for r in range(row - 1, -1, -1) if source.lines[r].strip()), None)
    starts = [] if above is None else _block_starts(source.lines[above], above)
    if not starts or _NO_VALUE.match(starts[-1].value):
        return False
    return _text_column(source.lines[row]) > starts[-1].column


def _describe(source: SourceText, start: _BlockStart) -> str:
    span = source.span(start.row, start.column)
    return f"column {span.column} (line {span.line})"


def _open_blocks(lines: list[str]) -> list[_BlockStart]:
    """Return the keys and items whose blocks the next line could continue."""
    starts: list[_BlockStart] = []
    text: int | None = None  # the lines of a block scalar are indented more than this column
    for row, line in enumerate(lines):
        if not line.strip() or (text is not None and _text_column(line) > text):
            continue
        text = None
        for start in _block_starts(line, row):
            starts = [earlier for earlier in starts if _contains(earlier, start)]
            starts.append(start)
            if _BLOCK_SCALAR.match(start.value):
                text = start.column
    return starts


def _contains(start: _BlockStart, later: _BlockStart) -> bool:
    # The items of a key's list may start in the column of the key.
    if start.column == later.column:
        return later.dash and not start.dash
    return start.column < later.column


def _block_starts(line: str, row: int) -> list[_BlockStart]:
    """Return the items and the key that start in a line, from the left."""
    match = _INDENTED_LINE.match(line)
    if match is None:
        return []
    column = len(match["lead"])
    starts = [
        _BlockStart(row, column + dash.start(), dash=True, value=match["rest"])
        for dash in re.finditer("-", match["dashes"])
    ]
    if key := _KEY_PATTERN.match(match["rest"]):
        column += len(match["dashes"])
        starts.append(_BlockStart(row, column, dash=False, value=key["value"]))
    return starts


_INDENTATION_MISMATCH = "the indentation of this line matches no key or item above it"
_CLOSING = {
    '"': "closing quote",
    "'": "closing quote",
    "]": "closing bracket",
    "}": "closing brace",
}

_MISSING_SPACE = re.compile(r"\s*(- )?[A-Za-z_][\w.-]*:(?=[^\s/])")


@dataclass(frozen=True, slots=True)
class _SyntaxFault:
    """The place of an error of libyaml: its mark, and the mark where its context starts."""

    source: SourceText
    mark: Any
    context: Any
    line: str


@dataclass(frozen=True, slots=True)
class _Position:
    """A position that is counted from 0, like libyaml's marks."""

    line: int
    column: int


_Explanation = tuple[str, str | None, Any]
"""Message, hint and position of a syntax error."""


def report_syntax_error(source: SourceText, error: yaml.YAMLError) -> None:
    """Report a syntax error at its position, with its likely cause."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", "") or error)
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        source.error("syntax", f"this is not YAML: {problem}", None)
        return
    context = getattr(error, "context_mark", None) or mark
    line = source.lines[mark.line] if mark.line < len(source.lines) else ""
    fault = _SyntaxFault(source, mark, context, line)
    message, hint, position = next(
        (explain(fault) for start, explain in _EXPLANATIONS if problem.startswith(start)),
        (problem, None, mark),
    )
    last = len(source.lines) - 1
    row, column = min((position.line, position.column), (last, len(source.lines[last])))
    source.error("syntax", message, source.span(row, column), hint)


def _explain_colon(fault: _SyntaxFault) -> _Explanation:
    source, row = fault.source, fault.mark.line
    hint = "check the indentation of this line"
    above = next((r for r in range(row - 1, -1, -1) if source.lines[r].strip()), None)
    if ": " in fault.line[: fault.mark.column]:
        hint = "a value with ': ' in it needs quotes"
    elif above is not None and _MISSING_SPACE.match(source.lines[above]):
        hint = f"a space is missing after the ':' on line {above + 1 + source.line_offset}"
    elif _is_indented_too_far(source, row) and (columns := _fitting_columns(source, row)):
        message = "this line is indented further than the lines beside it"
        return message, columns, _Position(row, _text_column(fault.line))
    elif above is not None and ":" not in source.lines[above]:
        hint = f"a ':' is missing on line {above + 1 + source.line_offset}"
    return "a ':' is not allowed here", hint, fault.mark


def _explain_start(fault: _SyntaxFault) -> _Explanation:
    character = fault.line[fault.mark.column : fault.mark.column + 1]
    hint = f"text that starts with {quoted(character)} needs quotes"
    return f"a value cannot start with {quoted(character)}", hint, fault.mark


def _explain_open_quote(fault: _SyntaxFault) -> _Explanation:
    return "the quote that opens here is never closed", None, fault.context


def _explain_escape(fault: _SyntaxFault) -> _Explanation:
    written = fault.line[fault.mark.column : fault.mark.column + 2]
    hint = "a backslash has a meaning in double quotes; use single quotes"
    return f"unknown escape {quoted(written)}", hint, fault.mark


def _explain_flow(fault: _SyntaxFault) -> _Explanation:
    opening = fault.source.lines[fault.context.line][fault.context.column :]
    number = fault.context.line + 1 + fault.source.line_offset
    if fault.mark.line > fault.context.line and opening.strip() in ("{", "["):
        message = f"a comma or the end of the {opening[0]} that opens on line {number} is missing"
        return message, None, fault.mark
    hint = "text that starts with { or [ needs quotes"
    return f"the {opening[:1]} that opens here is never closed", hint, fault.context


def _explain_key(fault: _SyntaxFault) -> _Explanation:
    before = fault.line[: fault.mark.column].rstrip()
    if before:
        end = _CLOSING.get(before[-1], "value")
        return f"text follows the {end}", "put the whole value in quotes", fault.mark
    columns = _fitting_columns(fault.source, fault.mark.line)
    if columns is None and fault.line[fault.mark.column :].startswith("- "):
        return "a list item is not allowed beside keys", "a list has a key above it", fault.mark
    span = fault.source.span(fault.context.line, fault.context.column)
    hint = f"the keys beside it start in column {span.column} (line {span.line})"
    return _INDENTATION_MISMATCH, columns or hint, fault.mark


def _explain_dash(fault: _SyntaxFault) -> _Explanation:
    columns = _fitting_columns(fault.source, fault.mark.line)
    if columns and not fault.line[: fault.mark.column].strip():
        return _INDENTATION_MISMATCH, columns, fault.mark
    span = fault.source.span(fault.context.line, fault.context.column)
    hint = f"the list from line {span.line} has its '- ' in column {span.column}"
    return "a list item must start with '- '", hint, fault.mark


def _explain_missing_colon(fault: _SyntaxFault) -> _Explanation:
    line = fault.source.lines[fault.context.line]
    hint = "a space is missing after the ':'" if _MISSING_SPACE.match(line) else None
    return "a key without its ':'", hint, fault.context


_EXPLANATIONS: tuple[tuple[str, Callable[[_SyntaxFault], _Explanation]], ...] = (
    ("mapping values are not allowed", _explain_colon),
    ("found character that cannot start", _explain_start),
    ("found unexpected end of stream", _explain_open_quote),
    ("found unknown escape character", _explain_escape),
    ("did not find expected ','", _explain_flow),
    ("did not find expected key", _explain_key),
    ("did not find expected '-'", _explain_dash),
    ("could not find expected ':'", _explain_missing_colon),
)
