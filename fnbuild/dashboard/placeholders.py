"""Placeholders such as `{{ .name }}` in the text of a template."""

from __future__ import annotations

import json
import re
from typing import Any

from fnbuild.errors import InputError
from fnbuild.spec.source import MAX_BYTES

# The text between the braces is stripped in code: a pattern for that would backtrack.
_PLACE = re.compile(r"\{\{([^{}\n]*)\}\}")
_NAME = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)\Z")


def filled(template: str, values: dict[str, Any]) -> str:
    """Return the text with its values. Raises `InputError` beyond the size of a function.yaml."""
    size = 0

    def counted(text: str) -> str:
        nonlocal size
        size += len(text)
        if size > MAX_BYTES:
            raise InputError(
                f"the template makes a function.yaml of more than {MAX_BYTES >> 20} MiB",
                hint="keep large texts in files beside function.yaml",
            )
        return text

    counted(template)
    return _PLACE.sub(lambda place: counted(_value(place[1].strip("- \t"), values)), template)


def _value(expression: str, values: dict[str, Any]) -> str:
    named = _NAME.match(expression)
    if named is None:
        raise InputError(
            f"{{{{ {expression[:80]} }}}} is more than the name of a value",
            hint="{{ .name }} is filled in; nothing else of Go's templates is",
        )
    if named[1] not in values:
        raise InputError(f"there is no value of the name {named[1]!r}", hint="values holds them")
    value = values[named[1]]
    return value if isinstance(value, str) else json.dumps(value)
