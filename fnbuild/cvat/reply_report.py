"""Diagnostics about a reply, and the checks of values that all kinds of replies share."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fnbuild.cvat.rules import RULES
from fnbuild.errors import Severity
from fnbuild.function.source_text import shortened
from fnbuild.function.suggestions import closest

# Comparing words is slow, and a reply may have a wrong word in every item. The number of words
# that are compared for one reply is limited; each suggestion counts as at least twenty words.
_MAX_COMPARED = 2000
_MIN_COMPARED = 20
_MAX_KNOWN_WORDS = 200


@dataclass(frozen=True, slots=True)
class ReplyDiagnostic:
    """A diagnostic about a reply.

    An error is what CVAT rejects, crashes on or draws incorrectly; a warning is what it silently
    drops. `path` is the place in the reply, such as `[3].points`.
    """

    rule: str
    path: str
    message: str
    hint: str | None = None

    @property
    def severity(self) -> Severity:
        return RULES[self.rule].severity

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.severity}[{self.rule}]: {place}{self.message}{hint}"


@dataclass(slots=True)
class ReplyReport:
    """The diagnostics about one reply, in their order."""

    items: list[ReplyDiagnostic] = field(default_factory=list)
    _to_compare: int = field(default=_MAX_COMPARED, init=False)
    _reported_once: set[str] = field(default_factory=set, init=False)

    def add(self, rule: str, path: str, message: str, hint: str | None = None) -> None:
        hint = None if hint is None else encodable(hint)
        self.items.append(ReplyDiagnostic(rule, encodable(path), encodable(message), hint))

    def add_once(self, rule: str, path: str, message: str, hint: str | None = None) -> None:
        """Add a diagnostic unless the report has one of this rule."""
        if rule not in self._reported_once:
            self._reported_once.add(rule)
            self.add(rule, path, message, hint)

    def suggestion(self, word: str, candidates: Collection[str]) -> str | None:
        """Return a hint with the most similar candidate, or with some of the candidates.

        None if the reply has already had 100 suggestions, or fewer if there are many candidates.
        """
        if not candidates or self._to_compare <= 0:
            return None
        if len(candidates) <= _MAX_KNOWN_WORDS:
            self._to_compare -= max(len(candidates), _MIN_COMPARED)
            if match := closest(word, candidates, 0.6):
                return f'did you mean "{match}"?'
        else:
            self._to_compare -= _MIN_COMPARED
        more = ", …" if len(candidates) > 6 else ""
        return f"known: {', '.join(islice(candidates, 6))}{more}"


def json_excerpt(value: Any) -> str:
    """Return a value as shortened JSON for messages."""
    return encodable(shortened(json.dumps(value, ensure_ascii=False), 60))


def encodable(text: str) -> str:
    """Replace the halves of surrogate pairs, which JSON may have and no encoding of a terminal."""
    return text.encode(errors="replace").decode()


def json_type(value: Any) -> str:
    """Return the JSON type of a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def is_number(value: Any) -> bool:
    """Return True for a JSON number, which excludes booleans."""
    if isinstance(value, float):
        return math.isfinite(value)
    # An integer of more than 53 bits is not exact as a coordinate, and may overflow a float.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def read_numbers(value: Any, path: str, report: ReplyReport) -> tuple[float, ...] | None:
    """Return a flat list of numbers, or None after reporting the first invalid item."""
    if not isinstance(value, list):
        report.add("points-list", path, f"must be a flat list of numbers, not {json_type(value)}")
        return None
    for i, item in enumerate(value):
        if is_number(item):
            continue
        if isinstance(item, list):
            report.add(
                "points-nested",
                path,
                f"must be a flat list of numbers; [{i}] is a list",
                "write [x1, y1, x2, y2], not [[x1, y1], [x2, y2]]",
            )
        elif isinstance(item, str):
            report.add(
                "points-string",
                path,
                f"[{i}] is the string {json_excerpt(item)}; CVAT takes only numbers",
            )
        else:
            written = json_excerpt(item) if isinstance(item, int | float) else json_type(item)
            is_infinite = isinstance(item, float) and not math.isfinite(item)
            rule = "points-finite" if is_infinite else "points-number"
            report.add(rule, path, f"[{i}] is {written}, not a number")
        return None
    return tuple(value)
