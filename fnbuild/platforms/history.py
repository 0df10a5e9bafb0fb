"""Revisions on record: how they are shown, and which one a rollback runs again.

It is the same on every platform that keeps a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from fnbuild.errors import NotFoundError, PreconditionError
from fnbuild.platforms import LogRecord, Revision
from fnbuild.spec.types import Function, Raw

State = Literal["active", "superseded", "failed"]


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


class Described(Recorded, Protocol):
    """All that is told of a revision. `created` is an ISO 8601 time in UTC."""

    @property
    def created(self) -> str: ...
    @property
    def function(self) -> Function: ...
    @property
    def note(self) -> str: ...
    @property
    def failure(self) -> str: ...
    @property
    def failed(self) -> bool: ...


R = TypeVar("R", bound=Recorded)


def shown(some: Iterable[Described], active: Described | None) -> list[Revision]:
    """Revisions as people see them, in the same order."""
    return [_shown(made, active is not None and made.number == active.number) for made in some]


def _shown(made: Described, active: bool) -> Revision:
    message = ": ".join(part for part in (made.note, made.failure) if part)
    state: State = "active" if active else "superseded"
    if made.failed:
        state = "failed"
    return Revision(made.number, made.created, state, made.digest, made.function, message)


def failures(some: Sequence[Described]) -> Iterator[LogRecord]:
    """What is left to say of a function of which nothing runs: why its newest revision failed.

    `some` are newest first.
    """
    for made in some[:1]:
        if made.failed:
            moment = datetime.fromisoformat(made.created).timestamp()
            yield LogRecord(moment, "error", made.failure)


def numbered(name: str, some: Sequence[R], number: int) -> R:
    """The function's revision of that number, or `NotFoundError`."""
    found = next((made for made in some if made.number == number), None)
    if found is None:
        numbers = ", ".join(str(made.number) for made in some)
        raise NotFoundError(
            f"{name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
        )
    return found


def without_code(name: str, config: Raw | None) -> PreconditionError:
    """What is said when there is nothing to run a function from; `config` is what is known of it.

    Source code that is in there becomes an image by a deploy alone.
    """
    build = ((config or {}).get("spec") or {}).get("build") or {}
    hint = f"deploy it from its folder: `fnbuild deploy {name} --path FOLDER`"
    if build.get("functionSourceCode"):
        hint = f"`fnbuild deploy {name}` builds it from the source in its configuration"
    return PreconditionError(f"no code of {name} is recorded", hint=hint)


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
