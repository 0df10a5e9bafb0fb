"""What the store gives out and takes in: one frozen value a table row."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

FunctionConfig = dict[str, Any]
"""A function's configuration as `spec.types.to_dict` makes it; `spec.reader.from_raw` reads it."""

DesiredState = Literal["running", "stopped", "imported"]
RevisionState = Literal["active", "superseded", "failed"]


@dataclass(frozen=True, slots=True)
class ProjectRow:
    namespace: str
    name: str
    description: str = ""
    owner: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """`revision` is the active one, 0 when there is none; ports are 0 when none was given.

    `updated` is an ISO 8601 time in UTC and is set by the store.
    """

    namespace: str
    name: str
    project: str = "default"
    desired: DesiredState = "running"
    revision: int = 0
    http_port: int = 0
    admin_port: int = 0
    state: str = "building"
    message: str = ""
    config: FunctionConfig = field(default_factory=dict)
    updated: str = ""


class FunctionChanges(TypedDict, total=False):
    """The fields of a function that may change, each one optional."""

    project: str
    desired: DesiredState
    revision: int
    http_port: int
    admin_port: int
    state: str
    message: str
    config: FunctionConfig


@dataclass(frozen=True, slots=True)
class RevisionDraft:
    """What a new revision starts with. `environment` is a Python's path, "" for the interpreter's.

    `code` may be left empty: then it is `revisions/<number>/code` in the function's folder.
    """

    digest: str
    config: FunctionConfig
    interpreter: str
    environment: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One deploy. A revision that never became ready stays `failed`, with the reason.

    One that runs the code of another again has that one's number as `origin`, else 0, and says so
    in its `note`.
    """

    namespace: str
    name: str
    number: int
    created: str
    state: RevisionState
    digest: str
    config: FunctionConfig
    code: Path
    environment: str
    interpreter: str
    message: str = ""
    origin: int = 0
    note: str = ""

    @property
    def source(self) -> int:
        """The revision that first had this code and configuration."""
        return self.origin or self.number


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what to what, and how it ended. `time` is in ISO 8601, UTC."""

    time: str
    actor: str
    action: str
    target: str
    outcome: str
