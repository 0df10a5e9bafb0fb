"""Values as texts of annotations and records, and back: what nobody can read counts as nothing, for
one strange object must not hide the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fnbuild.spec.types import Raw


def text_of(values: Raw) -> str:
    """JSON that is the same for the same values, whatever order somebody wrote them in."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def object_of(text: str) -> Raw:
    """The JSON object of the text; empty for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def part(values: Raw, *names: str) -> Raw:
    """A part of a configuration that nobody has checked; nothing where it is no object."""
    for name in names:
        found = values.get(name)
        values = found if isinstance(found, dict) else {}
    return values


def number(values: Mapping[str, Any], name: str) -> int:
    """0 for nothing or for no number: one strange object must not hide the others."""
    text = str(values.get(name, ""))
    return int(text) if text.isdecimal() else 0
