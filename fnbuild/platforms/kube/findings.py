"""What is said about a pod: a sentence, its remedy, and whether the pod will not become ready."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is one sentence in lower case, without a period; `hint` says what to do about it.

    `fatal` when waiting does not help. `container` is the one whose log says more, "" for none.
    """

    text: str
    hint: str = ""
    fatal: bool = False
    container: str = ""

    def become(self, *, fatal: bool) -> Finding:
        return replace(self, fatal=fatal)


def seconds(stamp: str | None) -> float | None:
    """A time of the cluster's in seconds since the epoch; None for none."""
    if not stamp:
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


def listed(words: list[str], joint: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last
