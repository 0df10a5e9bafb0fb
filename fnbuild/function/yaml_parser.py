"""Parse the text of a configuration file into YAML nodes, and explain syntax errors.

Tabs in the indentation are replaced in memory, so that the rest of the file is checked as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from fnbuild.errors import Span
from fnbuild.function.source_text import SourceText, quoted, report_conflict_markers
from fnbuild.function.yaml_nodes import YamlNode, compose

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


def text_column(line: str) -> int:
    """Return the column, from 0, where the line's text starts."""
    return len(line) - len(line.lstrip(" "))


def fitting_columns(source: SourceText, row: int) -> str | None:
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


def is_indented_too_far(source: SourceText, row: int) -> bool:
    """Return True if the row is indented more than the key or item above it, which has a value."""
    above = next((r for r in range(row - 1, -1, -1) if source.lines[r].strip()), None)
    starts = [] if above is None else _block_starts(source.lines[above], above)
    if not starts or _NO_VALUE.match(starts[-1].value):
        return False
    return text_column(source.lines[row]) > starts[-1].column


def _describe(source: SourceText, start: _BlockStart) -> str:
    span = source.span(start.row, start.column)
    return f"column {span.column} (line {span.line})"


def _open_blocks(lines: list[str]) -> list[_BlockStart]:
    """Return the keys and items whose blocks the next line could continue."""
    starts: list[_BlockStart] = []
    text: int | None = None  # the lines of a block scalar are indented more than this column
    for row, line in enumerate(lines):
        if not line.strip() or (text is not None and text_column(line) > text):
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


_TAB_HINT = "replace it with spaces: fnbuild validate --fix"
_INDENTATION = re.compile(r"[ \t]*")
_OPENS_BLOCK = re.compile(r"(:|[:-] +[|>][+-]?)\s*(#.*)?$")


def row_with_tab(source: SourceText, error: yaml.YAMLError) -> int | None:
    """Return the row (from 0) whose indentation has the tab that caused this error, or None."""
    mark = getattr(error, "problem_mark", None)
    if mark is None or mark.line >= len(source.lines):
        return None
    line = source.lines[mark.line]
    indent = _INDENTATION.match(line)
    lead = indent.group() if indent else ""
    if "\t" in lead and mark.column <= len(lead):
        return int(mark.line)
    return None


def report_tab(source: SourceText, row: int) -> None:
    line = source.lines[row]
    column = line.index("\t")
    length = len(line) - len(line[column:].lstrip("\t")) - column
    message = "a tab in the indentation; YAML is indented with spaces"
    source.error("tab", message, source.span(row, column, row, column + length), _TAB_HINT)


class TabRepairer:
    """Replaces tabs by spaces line by line. Lines with equal indentation keep it equal.

    `budget` is the number of characters that may be parsed while widths are tried.
    """

    def __init__(self, budget: int = 600_000):
        self.budget = budget
        self.known_widths: dict[str, int] = {}

    def repair(self, source: SourceText, row: int) -> SourceText | None:
        """Return the text with this line indented by spaces, or None if no width is valid."""
        line = source.lines[row]
        rest = line.lstrip(" \t")
        lead = line[: len(line) - len(rest)]
        for width in _candidate_widths(source, row, self.known_widths.get(lead)):
            self.budget -= len(source.text)
            if self.budget < 0:
                return None
            repaired = replace_line(source, row, " " * width + rest if rest else "")
            if _error_is_later(repaired, row):
                if rest:
                    self.known_widths[lead] = width
                return repaired
        return None


def _error_is_later(source: SourceText, row: int) -> bool:
    """Return True if the text has no error up to this line."""
    try:
        compose(SourceText(source.text, source.file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return mark is not None and mark.line > row
    return True


def _candidate_widths(source: SourceText, row: int, learned: int | None) -> list[int]:
    """Return the widths to try, the most likely first."""
    line = source.lines[row]
    lead = line[: len(line) - len(line.lstrip(" \t"))]
    above = _indentation_of_first(source, range(row - 1, -1, -1))
    below = _indentation_of_first(source, range(row + 1, len(source.lines)))
    expanded = [len(lead.expandtabs(width)) for width in (8, 4, 2)]
    neighbours = [width for width in (above, below) if width is not None]
    likely = [] if learned is None else [learned]
    before = next((text for text in reversed(source.lines[:row]) if text.strip()), "")
    if above is not None and _OPENS_BLOCK.search(before):
        # The block of a line that ends with ':' or '|' is indented further.
        likely += [above + 2, *(width for width in expanded if width > above)]
    likely += [width for width in expanded if width in neighbours]
    return list(dict.fromkeys([*likely, *neighbours, *expanded]))


def _indentation_of_first(source: SourceText, rows: range) -> int | None:
    for row in rows:
        line = source.lines[row]
        lead = line[: len(line) - len(line.lstrip(" \t"))]
        if line.strip() and "\t" not in lead:
            return len(lead)
    return None


def replace_line(source: SourceText, row: int, line: str) -> SourceText:
    """Return a source with one line replaced, and the same report."""
    start = source.index(row, 0)
    text = source.text[:start] + line + source.text[start + len(source.lines[row]) :]
    return SourceText(text, source.file, source.report, source.line_offset, source.prefix)


_INDENTATION_MISMATCH = "the indentation of this line matches no key or item above it"
_CLOSING = {
    '"': "closing quote",
    "'": "closing quote",
    "]": "closing bracket",
    "}": "closing brace",
}
_MISSING_SPACE = re.compile(r"\s*(- )?[A-Za-z_][\w.-]*:(?=[^\s/])")


def parse_yaml(source: SourceText) -> tuple[YamlNode, SourceText] | None:
    """Return the root of a file's tree, and the source of its positions, without tabs.

    None after reporting an error.
    """
    if report_conflict_markers(source):
        return None
    if not source.text.strip():
        source.error("empty", "the file is empty", source.span(0, 0))
        return None
    return _parse_repairing_tabs(source)


def _parse_repairing_tabs(source: SourceText) -> tuple[YamlNode, SourceText] | None:
    repairer = TabRepairer()
    while True:
        before = len(source.report)
        try:
            root = compose(source)
        except yaml.YAMLError as error:
            # These diagnostics are reported again when the repaired text is read.
            del source.report.diagnostics[before:]
            row = row_with_tab(source, error)
            if row is None:
                report_syntax_error(source, error)
                return None
            report_tab(source, row)
            repaired = repairer.repair(source, row)
            if repaired is None:
                return None
            source = repaired
            continue
        if root is None or root.is_null():
            if not source.report.errors:
                source.error("empty", "the file contains no values", source.span(0, 0))
            return None
        return root, source


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
    elif is_indented_too_far(source, row) and (columns := fitting_columns(source, row)):
        message = "this line is indented further than the lines beside it"
        return message, columns, _Position(row, text_column(fault.line))
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
    columns = fitting_columns(fault.source, fault.mark.line)
    if columns is None and fault.line[fault.mark.column :].startswith("- "):
        return "a list item is not allowed beside keys", "a list has a key above it", fault.mark
    span = fault.source.span(fault.context.line, fault.context.column)
    hint = f"the keys beside it start in column {span.column} (line {span.line})"
    return _INDENTATION_MISMATCH, columns or hint, fault.mark


def _explain_dash(fault: _SyntaxFault) -> _Explanation:
    columns = fitting_columns(fault.source, fault.mark.line)
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


_PATH_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def span_of_value(text: str, file: str, path: str) -> Span | None:
    """Return the span of the value at a path such as `spec.build.commands[2]`, or None.

    The case of keys does not matter, as in Nuclio (pkg/functionconfig/reader.go).
    """
    tree = parse_yaml(SourceText(text, file))
    if tree is None:
        return None
    node, source = tree
    for key, index in _PATH_PART.findall(path):
        child = _list_item(node, int(index)) if index else _mapping_value(node, key)
        if child is None:
            return None
        node = child
    return source.span(node.line, node.column, node.end_line, node.end_column)


def _mapping_value(node: YamlNode, key: str) -> YamlNode | None:
    pairs = node.pairs if node.kind == "map" else []
    return next((value for name, value in pairs if name.text.lower() == key.lower()), None)


def _list_item(node: YamlNode, index: int) -> YamlNode | None:
    items = node.items if node.kind == "list" else []
    return items[index] if index < len(items) else None
