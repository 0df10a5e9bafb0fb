"""Revision records and stored configurations: rules that all platforms share.

Each platform stores its records in its own way. This module defines which part of a configuration
is stored, how revision records are listed, and which revision a rollback runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from fnbuild.builder.artifact import Artifact
from fnbuild.errors import FnbuildError, NotFoundError, PreconditionError
from fnbuild.function.rules import with_defaults
from fnbuild.function.secrets import reject_masked_values, without_access_credentials
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.platforms.base import Revision
from fnbuild.platforms.logs import LogRecord
from fnbuild.progress import Progress

RevisionState = Literal["active", "pending", "superseded", "failed"]


PREVIOUS_STATE_ANNOTATION = "nuclio.io/previous-state"
# Nuclio's export adds these so that an import does not start the function
# (pkg/functionconfig/types.go, PrepareFunctionForExport); a deploy removes them.
SKIP_ANNOTATIONS = ("skip-build", "skip-deploy", PREVIOUS_STATE_ANNOTATION)


class RevisionRecord(Protocol):
    """A revision record. `source` is the revision that first had its code, usually itself."""

    @property
    def number(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def failed(self) -> bool: ...


class DetailedRevisionRecord(RevisionRecord, Protocol):
    """A revision record with all that `Revision` shows. `created` is an ISO 8601 time in UTC."""

    @property
    def created(self) -> str: ...
    @property
    def function(self) -> Function: ...
    @property
    def note(self) -> str: ...
    @property
    def failure(self) -> str: ...


R = TypeVar("R", bound=RevisionRecord)


@dataclass(frozen=True, slots=True)
class RevisionOrigin:
    """The revision whose code and configuration a new revision runs again, and a note about it.

    `revision` is 0 for a deploy of new code.
    """

    revision: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class RevisionHistory(Generic[R]):
    """The revision records of a function. `revisions` are newest first, with the active one."""

    name: str
    revisions: Sequence[R]
    active: R | None

    @property
    def latest(self) -> R | None:
        """The active revision, else the newest one, if there is any."""
        return self.active or next(iter(self.revisions), None)

    def find(self, number: int) -> R:
        """Return the revision with this number; raise `NotFoundError` if there is none."""
        record = next((record for record in self.revisions if record.number == number), None)
        if record is None:
            numbers = ", ".join(str(record.number) for record in self.revisions)
            raise NotFoundError(
                f"{self.name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
            )
        return record

    def choose_for_rollback(
        self, number: int | None, progress: Progress
    ) -> tuple[R, RevisionOrigin]:
        """Return the revision that `Platform.rollback` runs again, and the new one's origin."""
        if number is None:
            served = (record for record in self.revisions if not record.failed)
            record = rollback_target(self.name, self.active, served)
        else:
            record = self.find(number)
        progress(f"rolling back to the code and configuration of revision {record.number}")
        return record, RevisionOrigin(record.source, f"rollback to revision {record.number}")

    def choose_for_redeploy(self) -> tuple[R, RevisionOrigin] | None:
        """Return the revision that `Platform.redeploy` runs again, and the new one's origin."""
        record = self.latest
        if record is None:
            return None
        return record, RevisionOrigin(record.source, f"redeploy of revision {record.number}")


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


def failure_log(records: Sequence[DetailedRevisionRecord]) -> Iterator[LogRecord]:
    """Return the failure of the newest revision as the log of a function that does not run.

    `records` are newest first.
    """
    for record in records[:1]:
        if record.failed:
            moment = datetime.fromisoformat(record.created).timestamp()
            yield LogRecord(moment, "error", record.failure)


def timestamp() -> str:
    """Return the current time in ISO 8601, in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def failure_prefix(number: int, name: str) -> str:
    """Return the start of the message of each `NotReadyError`; the reason follows."""
    return f"revision {number} of {name} did not become ready: "


def failure_text(number: int, name: str, error: BaseException) -> str:
    """Return the failure to record for a revision; the first line is the reason."""
    if not isinstance(error, FnbuildError):
        return "the deploy was interrupted"
    reason = error.message.removeprefix(failure_prefix(number, name))
    return "\n".join(part for part in (reason, error.detail) if part)


def missing_code_error(
    name: str, config: Raw | None, folder: Path | None = None
) -> PreconditionError:
    """Return the error for a function that has no image to run.

    Source code in `config`, or in the `folder` of an import, becomes an image by a deploy.
    """
    build = ((config or {}).get("spec") or {}).get("build") or {}
    hint = f"deploy it from its folder: `fnbuild deploy {name} --path FOLDER`"
    if build.get("functionSourceCode"):
        hint = f"`fnbuild deploy {name}` builds it from the source in its configuration"
    elif folder is not None:
        hint = f"`fnbuild deploy {name}` builds it from the code that was imported with it"
    return PreconditionError(f"no code of {name} is recorded", hint=hint)


def rollback_target(name: str, now: R | None, superseded: Iterable[R]) -> R:
    """Return the newest of `superseded` that served before the present code and differs from it.

    `superseded` are newest first. Raises `NotFoundError` if there is none.
    """
    if now is None:
        raise NotFoundError(f"{name} has no active revision")
    for record in superseded:
        if record.number < now.source and (record.digest, record.config) != (
            now.digest,
            now.config,
        ):
            return record
    raise NotFoundError(
        f"no other revision of {name} served before revision {now.number}",
        hint=f"`fnbuild history {name}` lists all; `fnbuild rollback {name} N` runs one",
    )


def without_skip_annotations(function: Function) -> Function:
    """Return the function without the annotations that keep it from starting."""
    kept = {
        key: value
        for key, value in function.metadata.annotations.items()
        if key not in SKIP_ANNOTATIONS
    }
    return function.with_metadata(annotations=kept)


def imported_artifact(function: Function) -> tuple[Function, Artifact] | None:
    """Return what an imported function is deployed from: the image in its configuration.

    An export contains the image of the function that ran. Returns None without an image.
    """
    image = function.spec.image
    if not image:
        return None
    reject_masked_values(to_dict(function))
    exact = image if "@sha256:" in image else ""
    return with_defaults(without_skip_annotations(function)), Artifact(
        "image", image, "", pinned=exact
    )


def stored_config(function: Function) -> Raw:
    """Return the configuration to store, without the status and access credentials."""
    kept = {key: value for key, value in to_dict(function).items() if key != "status"}
    return without_access_credentials(kept)
