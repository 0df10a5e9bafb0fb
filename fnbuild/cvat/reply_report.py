"""Findings about a reply, and the checks of plain values that every kind of reply shares."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

# Comparing words is slow, and a reply may have a wrong word in every item: this many known words
# are looked through for one reply, and a suggestion counts as twenty of them at least.
_MAX_COMPARED = 2000
_MIN_COMPARED = 20
_MAX_KNOWN_WORDS = 200


@dataclass(frozen=True, slots=True)
class ReplyDiagnostic:
    """One finding about a reply.

    An error is what CVAT refuses, crashes on or draws wrongly; a warning is what it drops or leaves
    out without a word. `path` is the place in the reply, such as `[3].points`.
    """

    severity: Literal["error", "warning"]
    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.severity}: {place}{self.message}{hint}"


@dataclass(slots=True)
class ReplyReport:
    """Findings in the order they were made."""

    items: list[ReplyDiagnostic] = field(default_factory=list)
    _to_compare: int = field(default=_MAX_COMPARED, init=False)

    def error(self, path: str, message: str, hint: str | None = None) -> None:
        self.items.append(ReplyDiagnostic("error", path, message, hint))

    def warning(self, path: str, message: str, hint: str | None = None) -> None:
        self.items.append(ReplyDiagnostic("warning", path, message, hint))

    def likely(self, word: str, known: Collection[str]) -> str | None:
        """A hint that names the known word closest to this one, or a few of the known ones.

        None once a reply has had many of them: 100, and fewer where many words are known.
        """
        if not known or self._to_compare <= 0:
            return None
        if len(known) <= _MAX_KNOWN_WORDS:
            self._to_compare -= max(len(known), _MIN_COMPARED)
            by_case = {each.lower(): each for each in known}
            close = difflib.get_close_matches(word[:80].lower(), by_case, n=1, cutoff=0.6)
            if close:
                return f'did you mean "{by_case[close[0]]}"?'
        else:
            self._to_compare -= _MIN_COMPARED
        more = ", …" if len(known) > 6 else ""
        return f"known: {', '.join(islice(known, 6))}{more}"


def json_excerpt(value: Any) -> str:
    """A value as JSON, cut short: what a message can quote."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def json_type(value: Any) -> str:
    """The JSON type of a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def is_number(value: Any) -> bool:
    """A JSON number; booleans are none, although Python counts them among its integers."""
    if isinstance(value, float):
        return math.isfinite(value)
    # Beyond 53 bits an integer no longer fits a coordinate, and far beyond it overflows a float.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def read_numbers(value: Any, path: str, problems: ReplyReport) -> tuple[float, ...] | None:
    """A flat list of numbers, or None and an error that names the first fault."""
    if not isinstance(value, list):
        problems.error(path, f"must be a flat list of numbers, not {json_type(value)}")
        return None
    for i, item in enumerate(value):
        if is_number(item):
            continue
        if isinstance(item, list):
            problems.error(
                path,
                f"must be a flat list of numbers; [{i}] is a list",
                "write [x1, y1, x2, y2], not [[x1, y1], [x2, y2]]",
            )
        elif isinstance(item, str):
            problems.error(
                path, f"[{i}] is the string {json_excerpt(item)}; CVAT takes only numbers"
            )
        else:
            said = json_excerpt(item) if isinstance(item, int | float) else json_type(item)
            problems.error(path, f"[{i}] is {said}, not a number")
        return None
    return tuple(value)
