"""Revisions on record: how they are shown, and which one a rollback runs again.

It is the same on every platform that keeps a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from fnbuild.errors import NotFoundError, PreconditionError
from fnbuild.platforms.model import LogRecord, Revision
from fnbuild.spec.types import Function, Raw

State = Literal["active", "pending", "superseded", "failed"]


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


def shown(
    records: Iterable[Described], active: Described | None, pending: Described | None = None
) -> list[Revision]:
    """Convert revision records to `Revision` values, in the same order."""
    states: dict[int, State] = {}
    if active is not None:
        states[active.number] = "active"
    if pending is not None:
        states[pending.number] = "pending"
    return [_shown(record, states.get(record.number, "superseded")) for record in records]


def _shown(record: Described, state: State) -> Revision:
    message = ": ".join(part for part in (record.note, record.failure) if part)
    if record.failed:
        state = "failed"
    return Revision(record.number, record.created, state, record.digest, record.function, message)


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


def without_code(name: str, config: Raw | None, folder: Path | None = None) -> PreconditionError:
    """Return the error for a function that has no image to run.

    Source code in `config`, and the `folder` of an import, become an image only by a deploy.
    """
    build = ((config or {}).get("spec") or {}).get("build") or {}
    hint = f"deploy it from its folder: `fnbuild deploy {name} --path FOLDER`"
    if build.get("functionSourceCode"):
        hint = f"`fnbuild deploy {name}` builds it from the source in its configuration"
    elif folder is not None:
        hint = f"`fnbuild deploy {name}` builds it from the code that was imported with it"
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
