"""What holds for projects on every platform that keeps them itself."""

from __future__ import annotations

from collections.abc import Iterable

from fnbuild.errors import PreconditionError

DEFAULT = "default"


def deletable(name: str, functions: Iterable[str], *, cascade: bool) -> list[str]:
    """The functions that go with the project; `PreconditionError` when it has to stay."""
    if name == DEFAULT:
        raise PreconditionError("the project default cannot be deleted")
    members = list(functions)
    if members and not cascade:
        raise PreconditionError(
            f"project {name} has functions: {', '.join(members)}",
            hint="delete them first, or delete the project with `--strategy cascading`",
        )
    return members
