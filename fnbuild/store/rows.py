"""The rows of the store's tables as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

FunctionConfig = dict[str, Any]
"""A function's configuration, written by `function.types.to_dict`."""

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
    """A function. `revision` is the active one, 0 if there is none; ports are 0 until assigned.

    The store sets `updated`, an ISO 8601 time in UTC.
    """

    namespace: str
    name: str
    project: str = "default"
    desired: DesiredState = "running"
    revision: int = 0
    http_port: int = 0
    admin_port: int = 0
    grpc_port: int = 0
    state: str = "building"
    message: str = ""
    config: FunctionConfig = field(default_factory=dict)
    updated: str = ""


class FunctionChanges(TypedDict, total=False):
    """The fields of a function that may change; each is optional."""

    project: str
    desired: DesiredState
    revision: int
    http_port: int
    admin_port: int
    grpc_port: int
    state: str
    message: str
    config: FunctionConfig


@dataclass(frozen=True, slots=True)
class RevisionDraft:
    """A new revision. `environment` is the path of its Python, "" without an environment.

    The default of `code` is `revisions/<number>/code` in the function's folder.
    """

    digest: str
    config: FunctionConfig
    interpreter: str
    environment: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A revision. One that never became ready stays `failed`, with the reason as `message`.

    `environment` is the path of its Python, "" without an environment. `origin` is the number of
    the revision whose code it runs again, or 0; `note` describes that.
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
        """The number of the revision that first had this code and configuration."""
        return self.origin or self.number

    @property
    def failed(self) -> bool:
        return self.state == "failed"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry of the audit log. `time` is an ISO 8601 time in UTC."""

    time: str
    actor: str
    action: str
    target: str
    outcome: str
