"""Parse the text of a configuration file into YAML nodes.

Tabs in the indentation are replaced in memory, so that the rest of the file is checked as well.
"""

from __future__ import annotations

import re

import yaml

from fnbuild.errors import Span
from fnbuild.function.source_text import SourceText, report_conflict_markers
from fnbuild.function.yaml_nodes import YamlNode, compose
from fnbuild.function.yaml_syntax_errors import report_syntax_error

_TAB_HINT = "replace it with spaces: fnbuild validate --fix"
_OPENS_BLOCK = re.compile(r"(:|[:-] +[|>][+-]?)\s*(#.*)?$")


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def row_with_tab(source: SourceText, error: yaml.YAMLError) -> int | None:
    """Return the row (from 0) whose indentation has the tab that caused this error, or None."""
    mark = getattr(error, "problem_mark", None)
    if mark is None or mark.line >= len(source.lines):
        return None
    lead = _indentation(source.lines[mark.line])
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
        lead = _indentation(source.lines[row])
        rest = source.lines[row][len(lead) :]
        for width in _candidate_widths(source, row, self.known_widths.get(lead)):
            self.budget -= len(source.text)
            if self.budget < 0:
                return None
            repaired = _replace_line(source, row, " " * width + rest if rest else "")
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
    lead = _indentation(source.lines[row])
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
        lead = _indentation(line)
        if line.strip() and "\t" not in lead:
            return len(lead)
    return None


def _replace_line(source: SourceText, row: int, line: str) -> SourceText:
    """Return a source with one line replaced, and the same report."""
    start = source.index(row, 0)
    text = source.text[:start] + line + source.text[start + len(source.lines[row]) :]
    return SourceText(text, source.file, source.report, source.line_offset, source.prefix)


def parse_yaml(source: SourceText) -> tuple[YamlNode, SourceText] | None:
    """Return the root of a file's tree, and the text that its positions refer to.

    In that text, spaces replace tabs in the indentation. None after reporting an error.
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
