"""Revision records and stored configurations: rules that all platforms share.

Each platform stores its records in its own way. This module defines which part of a configuration
is stored, how revision records are listed, and which revision a rollback runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from fnbuild.builder.staging import Artifact
from fnbuild.errors import NotFoundError, PreconditionError
from fnbuild.platforms.base import LogRecord, Revision
from fnbuild.spec.rules import complete
from fnbuild.spec.secrets import refuse_masked, without_secrets
from fnbuild.spec.types import Function, Raw, to_dict

RevisionState = Literal["active", "pending", "superseded", "failed"]


class RevisionRecord(Protocol):
    """A revision on record. `source` is the revision whose code it is, its own number mostly."""

    @property
    def number(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...


class DetailedRevisionRecord(RevisionRecord, Protocol):
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


R = TypeVar("R", bound=RevisionRecord)


def to_revisions(
    records: Iterable[DetailedRevisionRecord],
    active: DetailedRevisionRecord | None,
    pending: DetailedRevisionRecord | None = None,
) -> list[Revision]:
    """Convert revision records to `Revision` values, in the same order."""
    states: dict[int, RevisionState] = {}
    if active is not None:
        states[active.number] = "active"
    if pending is not None:
        states[pending.number] = "pending"
    return [_to_revision(record, states.get(record.number, "superseded")) for record in records]


def _to_revision(record: DetailedRevisionRecord, state: RevisionState) -> Revision:
    message = ": ".join(part for part in (record.note, record.failure) if part)
    if record.failed:
        state = "failed"
    return Revision(record.number, record.created, state, record.digest, record.function, message)


def failure_log(some: Sequence[DetailedRevisionRecord]) -> Iterator[LogRecord]:
    """What is left to say of a function of which nothing runs: why its newest revision failed.

    `some` are newest first.
    """
    for made in some[:1]:
        if made.failed:
            moment = datetime.fromisoformat(made.created).timestamp()
            yield LogRecord(moment, "error", made.failure)


def find_revision(name: str, some: Sequence[R], number: int) -> R:
    """The function's revision of that number, or `NotFoundError`."""
    found = next((made for made in some if made.number == number), None)
    if found is None:
        numbers = ", ".join(str(made.number) for made in some)
        raise NotFoundError(
            f"{name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
        )
    return found


def missing_code_error(
    name: str, config: Raw | None, folder: Path | None = None
) -> PreconditionError:
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


def rollback_target(name: str, now: R | None, superseded: Iterable[R]) -> R:
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


PREVIOUS_STATE_ANNOTATION = "nuclio.io/previous-state"

# Nuclio's export writes these so that an import does not start anything by itself
# (pkg/functionconfig/types.go, PrepareFunctionForExport); a deploy takes them off again.
_SKIP_ANNOTATIONS = ("skip-build", "skip-deploy", PREVIOUS_STATE_ANNOTATION)


def without_skip_annotations(function: Function) -> Function:
    """The function, free to start."""
    kept = {
        key: value
        for key, value in function.metadata.annotations.items()
        if key not in _SKIP_ANNOTATIONS
    }
    metadata = msgspec.structs.replace(function.metadata, annotations=kept)
    return msgspec.structs.replace(function, metadata=metadata)


def imported_artifact(function: Function) -> tuple[Function, Artifact] | None:
    """What an imported function is deployed from: the image of which its configuration speaks, as
    the export has it of what ran. None where it names none.
    """
    image = function.spec.image
    if not image:
        return None
    refuse_masked(to_dict(function))
    exact = image if "@sha256:" in image else ""
    return complete(without_skip_annotations(function)), Artifact("image", image, "", pinned=exact)


def stored_config(function: Function) -> Raw:
    """What somebody wants, without what was the case and without secrets."""
    kept = {key: value for key, value in to_dict(function).items() if key != "status"}
    return without_secrets(kept)
