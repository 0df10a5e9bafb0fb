"""What holds for projects on every platform that keeps them itself."""

from __future__ import annotations

import json
from collections.abc import Iterable

from fnbuild.errors import PreconditionError

DEFAULT_PROJECT = "default"


def members_to_delete(name: str, functions: Iterable[str], *, cascade: bool) -> list[str]:
    """The functions that go with the project; `PreconditionError` when it has to stay."""
    if name == DEFAULT_PROJECT:
        raise PreconditionError("the project default cannot be deleted")
    members = list(functions)
    if members and not cascade:
        raise PreconditionError(
            f"project {name} has functions: {', '.join(members)}",
            hint="delete them first, or delete the project with `--strategy cascading`",
        )
    return members


def decode_string_map(text: str | None) -> dict[str, str]:
    """Labels or annotations that are kept as JSON where others could change them."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: one for key, one in found.items() if isinstance(one, str)}
