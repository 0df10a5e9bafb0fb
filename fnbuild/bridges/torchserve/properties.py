"""Java's properties: files of keys and values, as `java.util.Properties` of Java 17 reads them.

A comment is a line of its own: after a value, `#` is part of the value. Java reads a file as
ISO-8859-1, so that other characters are written as `\\uXXXX`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_CONTINUATION = r"\\(?:\r\n|[\r\n])[ \t\f]*"
_BLANK = rf"(?:[ \t\f]|{_CONTINUATION})"
_SKIPPED = rf"(?:[\r\n]|{_BLANK}|[#!][^\r\n]*)*"
_PROPERTY = re.compile(
    rf"{_SKIPPED}(?P<key>(?:{_CONTINUATION}|\\.|[^\\=: \t\f\r\n])*)"
    rf"(?P<separator>{_BLANK}*[=:]?{_BLANK}*)(?P<value>(?:{_CONTINUATION}|\\.|[^\\\r\n])*)\\?"
)
_ESCAPE = re.compile(rf"{_CONTINUATION}|\\u([0-9a-fA-F]{{4}})|\\(.)")
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPES = {"\\": "\\\\", **{char: f"\\{name}" for name, char in _ESCAPED.items()}}


class Property(NamedTuple):
    """A key and its value as Java reads them, with their places in the text."""

    key: str
    value: str
    start: int
    key_end: int
    value_start: int
    end: int


def parse_properties(text: str) -> list[Property]:
    """Return all properties in their order; of equal keys, Java takes the last one."""
    return [
        Property(
            unescape(match["key"]),
            unescape(match["value"]),
            match.start("key"),
            match.end("key"),
            match.start("value"),
            match.end("value"),
        )
        for match in _PROPERTY.finditer(text)
        if match["key"] or match["separator"]
    ]


def unescape(raw: str) -> str:
    """Return a key or a value as Java reads it."""
    return _ESCAPE.sub(_character, raw)


def _character(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _ESCAPED.get(match[2], match[2]) if match[2] else ""


def render_property(key: str, value: str) -> str:
    """Return the line of a property, with as few escapes as Java needs."""
    escaped_key = re.sub(r"[=:#! ]", r"\\\g<0>", _escape(key))
    return f"{escaped_key}={render_value(value)}"


def render_value(value: str) -> str:
    """Return a value as it is written after `=`."""
    escaped = _escape(value)
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def _escape(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    characters = [chr(high << 8 | low) for high, low in zip(units[::2], units[1::2], strict=True)]
    return "".join(
        _ESCAPES.get(item) or (item if " " <= item <= "~" else f"\\u{ord(item):04x}")
        for item in characters
    )


def set_values(text: str, values: Mapping[str, str]) -> str:
    """Return the text with other values; keys that it does not have are added at its end.

    Everything else stays as it is.
    """
    last = {item.key: item for item in parse_properties(text)}
    result = replace_spans(
        text,
        (
            (last[key].start, last[key].end, render_property(key, value))
            for key, value in values.items()
            if key in last
        ),
    )
    added = "".join(f"{render_property(key, values[key])}\n" for key in values if key not in last)
    return result + ("\n" if added and result and result[-1] not in "\r\n" else "") + added


def replace_spans(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """Return the text with spans replaced: start, end and new content of each."""
    for start, end, content in sorted(edits, reverse=True):
        text = text[:start] + content + text[end:]
    return text
