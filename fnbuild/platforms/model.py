"""The values that cross the protocol of the platforms: plans, deployments, revisions, projects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fnbuild.builder.staging import Artifact
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.spec.types import Function

_DNS_1123 = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

Manifest = dict[str, Any]
"""A resource as plain JSON values: what `--dry-run -o yaml` prints and `diff` compares."""

State = Literal[
    "building", "ready", "unhealthy", "error", "imported", "scaledToZero", "standby", "stopped"
]
"""Nuclio's function states, and `stopped` for a function whose processes are down on purpose."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change on the platform; `before` and `after` make the diff.

    `replace` is how a change is made, not what changes: it is no part of a diff.
    """

    verb: Literal["create", "update", "replace", "delete", "keep"]
    target: str
    before: Manifest | None = None
    after: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that `apply` will make.

    `left_out` are build lines that the platform cannot run, a possible cause of a failure.
    `manifests` are the resources in the form that users keep in git, on platforms that have them;
    `needs` are sentences about what else the manifests require. `refusal` is the error with which
    `apply` would refuse the plan in the present state.
    """

    function: Function
    artifact: Artifact
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    needs: tuple[str, ...] = ()
    refusal: FnbuildError | None = None

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.verb != "keep")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A function as the platform has it now.

    `function` is the stored configuration; `revision` counts from 1; `replicas` is
    (available, wanted); `http_port` is the live port on this machine or node, 0 when there is none.
    `changing` says who else changes it now, as in "being deployed from HOST:DIR"; "" for nobody
    and for this process.
    """

    function: Function
    platform: str
    state: State
    message: str = ""
    revision: int = 0
    http_port: int = 0
    internal_urls: tuple[str, ...] = ()
    external_urls: tuple[str, ...] = ()
    replicas: tuple[int, int] = (0, 0)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    changing: str = ""

    def while_changed(self, by: str) -> Deployment:
        """The same while somebody else changes it, as `changing` says; `by` may be ""."""
        if not by:
            return self
        return replace(self, state="building", message=f"it is {by}", changing=by)

    @property
    def name(self) -> str:
        return self.function.metadata.name

    @property
    def url(self) -> str:
        """Where somebody on this machine finds the function; "" when nowhere."""
        for address in (*self.external_urls, *self.internal_urls):
            return address if "://" in address else f"http://{address}"
        return f"http://127.0.0.1:{self.http_port}" if self.http_port else ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded deploy of a function. `created` is an ISO 8601 time in UTC.

    `active` serves, `pending` is about to and has not become ready yet, `failed` never did.
    """

    number: int
    created: str
    state: Literal["active", "pending", "superseded", "failed"]
    digest: str
    function: Function
    message: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """`name` follows DNS-1123, as Nuclio asks (pkg/platform/abstract/project)."""

    name: str
    namespace: str
    description: str = ""
    owner: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _DNS_1123.fullmatch(self.name) or len(self.name) > 63:
            raise UsageError(
                f"{self.name!r} cannot be the name of a project",
                hint="lower-case letters, digits and '-', 63 at most, as in 'street-cameras'",
            )


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a function's log. `time` is in seconds since the epoch."""

    time: float
    level: str
    message: str
    worker: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one processor has counted since it began, and how its workers are now.

    `requests` are all that it was sent, `errors` those among them that failed, timed out, were
    refused or found no worker. `durations` is a histogram of the time that events took in a worker:
    upper bounds in milliseconds, the last one infinite, with how many took no longer; together they
    took `milliseconds`. `workers` counts by state; `gpu_memory` is in bytes, None where nobody can
    tell.
    """

    requests: int = 0
    errors: int = 0
    durations: tuple[tuple[float, int], ...] = ()
    milliseconds: float = 0.0
    workers: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0
    gpu_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Restarts:
    """The number of times that a function's processes or containers were restarted.

    `reason` describes the last end, and `time` is its time in ISO 8601; both may be "".
    """

    count: int
    reason: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at to tell whether functions can be built and run.

    `area` is one of `examination.AREAS`, or the name of what was looked at; `remedy` says what to
    do, "" where nothing is to be done.
    """

    area: str
    state: Literal["ok", "warning", "failure", "skipped"]
    message: str
    remedy: str = ""


Progress = Callable[[str], None]
"""Called with one short sentence whenever something begins or is done."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The exclusive right to deploy one function, see `Platform.reserve`.

    `apply` carries out a plan as `Platform.apply` does, under this right.
    """

    apply: Callable[[Plan, Progress], Deployment]
