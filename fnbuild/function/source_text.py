"""The text of a configuration or source file, which reports diagnostics at its positions."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from fnbuild.errors import Diagnostic, Report, Severity, Span

MAX_BYTES = 1024 * 1024
"""The largest configuration file that is read: 1 MiB."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# Characters that libyaml rejects, and those that could control a terminal in an excerpt.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONFLICT_MARKER = re.compile(r"(<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\|)( .*)?$")
_LONGEST_QUOTED = 60
_LONGEST_EXCERPT = 4000

MAX_DIAGNOSTICS = 100
"""The limit of errors, and of warnings, in a report: a hostile file could cause thousands."""


class SourceText:
    """Decoded text of one file and the report about it.

    `file` is the name in diagnostics. Text from the middle of another file starts after
    `line_offset` lines of it, and each of its lines follows a `prefix`.
    """

    __slots__ = ("file", "line_offset", "lines", "prefix", "report", "text")

    def __init__(
        self,
        text: str,
        file: str,
        report: Report | None = None,
        line_offset: int = 0,
        prefix: str = "",
    ):
        self.text = text
        self.file = file
        self.report = Report() if report is None else report
        self.line_offset = line_offset
        self.prefix = prefix
        self.lines = _LINE_BREAK.split(text)

    def span(self, line: int, column: int, end_line: int = 0, end_column: int = 0) -> Span:
        """Return a span for positions that are counted from 0, as libyaml counts them."""
        if not end_line and not end_column:
            end_line, end_column = line, column + 1
        rows, columns = self.line_offset + 1, len(self.prefix) + 1
        return Span(self.file, line + rows, column + columns, end_line + rows, end_column + columns)

    def span_at(self, index: int) -> Span:
        """Return the span of the character at `index` of the text."""
        return self.span(*self.position(index))

    def position(self, index: int) -> tuple[int, int]:
        """Return line and column, counted from 0, of a character of the text."""
        line, start = 0, 0
        for line_break in _LINE_BREAK.finditer(self.text, 0, index):
            line, start = line + 1, line_break.end()
        return line, index - start

    def index(self, line: int, column: int) -> int:
        """Return the index in the text of a position that is counted from 0."""
        start = 0
        for row in self.lines[:line]:
            start += len(row)
            start += 2 if self.text.startswith("\r\n", start) else 1
        return start + column

    def excerpt(self, span: Span) -> str | None:
        """Return the span's first line without control characters."""
        row = span.line - 1 - self.line_offset
        if not 0 <= row < len(self.lines) or span.column > _LONGEST_EXCERPT:
            return None
        return _UNSAFE.sub(
            "\N{REPLACEMENT CHARACTER}", self.prefix + self.lines[row][:_LONGEST_EXCERPT]
        )

    def diagnostic(
        self,
        severity: Severity,
        rule: str,
        message: str,
        span: Span | None,
        hint: str | None = None,
    ) -> Diagnostic:
        """Return a diagnostic about this text, with its excerpt."""
        return Diagnostic(severity, rule, message, span, self.excerpt(span) if span else None, hint)

    def warning(self, rule: str, message: str, span: Span | None, hint: str | None = None) -> None:
        if has_room(self.report, "warning"):
            self.report.add(self.diagnostic("warning", rule, message, span, hint))

    def error(self, rule: str, message: str, span: Span | None, hint: str | None = None) -> None:
        if has_room(self.report, "error"):
            self.report.add(self.diagnostic("error", rule, message, span, hint))


def has_room(report: Report, severity: Severity) -> bool:
    """Return True if the report takes further diagnostics of this severity."""
    diagnostics = report.diagnostics
    if len(diagnostics) < MAX_DIAGNOSTICS:
        return True
    # Diagnostics of one severity often follow one another, so the last ones are counted first.
    recent = diagnostics[-MAX_DIAGNOSTICS:]
    return any(diagnostic.severity != severity for diagnostic in recent) and (
        sum(diagnostic.severity == severity for diagnostic in diagnostics) < MAX_DIAGNOSTICS
    )


def quoted(value: object) -> str:
    """Return a value for messages: quoted, shortened, and without control characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if not isinstance(value, str):
        return str(value)
    text = shortened(value, _LONGEST_QUOTED)
    safe = "".join(c if unicodedata.category(c)[0] != "C" else f"\\x{ord(c):02x}" for c in text)
    return f"'{safe}'"


def shortened(text: str, length: int) -> str:
    """Return the text, with an ellipsis in place of what exceeds the length."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_source(path: Path, name: str, report: Report) -> SourceText | None:
    """Return the text of a configuration file, or None after reporting an error."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            message = f"{name} has {size} bytes; a configuration file has at most {MAX_BYTES}"
            report.add(Diagnostic("error", "too-large", message, Span(name, 1, 1, 1, 2)))
            return None
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or error}"
        report.add(Diagnostic("error", "unreadable", message))
        return None
    return decode_source(data, name, report)


def decode_source(data: bytes, name: str, report: Report) -> SourceText | None:
    """Decode a configuration file's bytes. A byte order mark is dropped."""
    if len(data) > MAX_BYTES:
        message = f"{name} has more than the {MAX_BYTES} bytes a configuration file may have"
        report.add(Diagnostic("error", "too-large", message, Span(name, 1, 1, 1, 2)))
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = f"{name} is UTF-16 text; configuration is UTF-8"
        hint = f"convert it: iconv -f UTF-16 -t UTF-8 {name}"
        report.add(Diagnostic("error", "not-utf8", message, Span(name, 1, 1, 1, 2), None, hint))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _report_encoding(data, error.start, name, report)
        return None
    source = SourceText(text, name, report)
    control = _CONTROL.search(text)
    if control:
        code = f"U+{ord(control.group()):04X}"
        message = f"the file contains a control character ({code}); configuration is plain text"
        if control.group() == "\0":
            message = "the file contains a NUL byte: it is binary, not a YAML file"
        source.error("binary", message, source.span_at(control.start()))
        return None
    return source


def _report_encoding(data: bytes, start: int, name: str, report: Report) -> None:
    before = data[:start].decode("utf-8-sig", "replace")
    source = SourceText(data.decode("utf-8-sig", "replace"), name, report)
    span = source.span_at(len(before))
    if b"\0" in data[:8192]:
        source.error("binary", "the file contains NUL bytes: it is binary, not a YAML file", span)
        return
    message = f"byte 0x{data[start]:02x} is not UTF-8 text"
    source.error("not-utf8", message, span, "save the file as UTF-8")


def report_conflict_markers(source: SourceText) -> bool:
    """Report conflict markers of git, one error for each conflict. Return True if there are any."""
    if "<<<<<<<" not in source.text and ">>>>>>>" not in source.text:
        return False
    conflicts: list[list[int]] = []
    for row, line in enumerate(source.lines):
        # '=======' without other markers may be an underline in a block of text.
        if line[:1] not in "<=>|" or not _CONFLICT_MARKER.match(line):
            continue
        # If a marker was deleted by hand, a conflict has no start or no end.
        if line[0] == "<" or not conflicts or source.lines[conflicts[-1][-1]][0] == ">":
            conflicts.append([])
        conflicts[-1].append(row)
    for rows in conflicts:
        first, *others = rows
        span = source.span(first, 0, first, len(source.lines[first]))
        message = "git conflict marker: the merge of this file is not finished"
        if others:
            numbers = [str(row + 1) for row in others]
            *most, last = numbers
            place = f"lines {', '.join(most)} and {last}" if most else f"line {last}"
            message += f" (its other markers: {place})"
        hint = "keep one of the two sides and delete the marker lines"
        source.error("conflict-marker", message, span, hint)
    return bool(conflicts)
