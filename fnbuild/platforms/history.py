"""Which revision a rollback runs again, the same on every platform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from fnbuild.errors import NotFoundError


class Recorded(Protocol):
    """A revision on record. `source` is the revision whose code it is, its own number mostly."""

    @property
    def number(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Recorded)


def before(name: str, now: R | None, superseded: Iterable[R]) -> R:
    """The newest of `superseded` (newest first) that served before the code that runs now, and
    differs from it. Raises `NotFoundError`.
    """
    if now is None:
        raise NotFoundError(f"{name} has no active revision")
    for one in superseded:
        if one.number < now.source and (one.digest, one.config) != (now.digest, now.config):
            return one
    raise NotFoundError(
        f"no other revision of {name} served before revision {now.number}",
        hint=f"`fnbuild history {name}` lists all; `fnbuild rollback {name} N` runs one",
    )
