"""A line whose indentation fits nothing above it: which columns would fit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fnbuild.spec.source import Source

_LINE = re.compile(r"(?P<lead> *)(?P<dashes>(?:- +)*)(?P<rest>.*)")
_KEY = re.compile(r"(?![#{\[&*!|>%@`]).*?:(?=\s|$)(?P<value>.*)")
_BLOCK = re.compile(r"\s*[|>][-+0-9]*\s*(#.*)?$")
_NOTHING = re.compile(r"\s*(#.*)?$")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a key or, with `dash`, an item of a list begins. `value` is what follows it."""

    row: int
    column: int
    dash: bool
    value: str = ""


def text_column(line: str) -> int:
    """The column, from 0, in which the line's text begins."""
    return len(line) - len(line.lstrip(" "))


def fitting(source: Source, row: int) -> str | None:
    """Words for the columns that a key or an item in this row could begin in; None when it has one
    of them, or is neither."""
    written = _places(source.lines[row], row)
    if not written:
        return None
    first = written[0]
    columns = {
        place.column: place for place in _open(source.lines[:row]) if place.dash == first.dash
    }
    further = min((one for one in columns if one > first.column), default=None)
    nearer = max((one for one in columns if one < first.column), default=None)
    if first.column in columns or further == nearer:
        return None
    found = [columns[one] for one in (further, nearer) if one is not None]
    words = " or ".join(_words(source, place) for place in found)
    return f"the {'items' if first.dash else 'keys'} above it start in {words}"


def is_too_deep(source: Source, row: int) -> bool:
    """Whether the row is further in than the key or item right above it, which has a value."""
    above = next((r for r in range(row - 1, -1, -1) if source.lines[r].strip()), None)
    places = [] if above is None else _places(source.lines[above], above)
    if not places or _NOTHING.match(places[-1].value):
        return False
    return text_column(source.lines[row]) > places[-1].column


def _words(source: Source, place: _Place) -> str:
    span = source.span(place.row, place.column)
    return f"column {span.column} (line {span.line})"


def _open(lines: list[str]) -> list[_Place]:
    """The keys and items whose blocks a further line could go on with."""
    found: list[_Place] = []
    text: int | None = None  # the column that the lines of a block of text lie behind
    for row, line in enumerate(lines):
        if not line.strip() or (text is not None and text_column(line) > text):
            continue
        text = None
        for place in _places(line, row):
            found = [one for one in found if _stays(one, place)]
            found.append(place)
            if _BLOCK.match(place.value):
                text = place.column
    return found


def _stays(one: _Place, later: _Place) -> bool:
    # The items of a key's list may stand right below the key.
    return one.column < later.column or (one.column == later.column and later.dash and not one.dash)


def _places(line: str, row: int) -> list[_Place]:
    """What begins in a line, from the left."""
    match = _LINE.match(line)
    if match is None:
        return []
    column = len(match["lead"])
    found = [
        _Place(row, column + dash.start(), dash=True, value=match["rest"])
        for dash in re.finditer("-", match["dashes"])
    ]
    if key := _KEY.match(match["rest"]):
        column += len(match["dashes"])
        found.append(_Place(row, column, dash=False, value=key["value"]))
    return found
