"""The protocol that every platform implements, and the values that it exchanges.

A platform turns a `Function` and an `Artifact` into a `Plan` without changing anything, and applies
the plan. Functions, revisions and projects are returned as `Deployment`, `Revision` and `Project`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple, Protocol

from fnbuild.builder.staging import Artifact
from fnbuild.errors import FnbuildError, NotFoundError, UsageError
from fnbuild.function.suggestions import closest
from fnbuild.function.types import Function
from fnbuild.progress import Progress

_DNS_1123 = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

Manifest = dict[str, Any]
"""A resource as plain JSON values: what `--dry-run -o yaml` prints and `diff` compares."""

FunctionState = Literal[
    "building", "ready", "unhealthy", "error", "imported", "scaledToZero", "standby", "stopped"
]
"""Nuclio's function states, and `stopped` for a function whose processes are down on purpose."""


REVISION_TARGET = "revision"


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The location of a cluster: a kubeconfig file and one of its contexts.

    Without them, the environment and the current context decide.
    """

    kubeconfig: str = ""
    context: str = ""


NO_CONNECT_OPTIONS = ConnectOptions()


@dataclass(frozen=True, slots=True)
class Change:
    """One change on the platform. A diff compares `before` and `after`.

    A `replace` recreates an object without a difference, so a diff does not show it.
    """

    verb: Literal["create", "update", "replace", "delete", "keep"]
    target: str
    before: Manifest | None = None
    after: Manifest | None = None


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of a deploy.

    `force` makes a new revision even without changes. `overlap` starts the new processor before the
    old one stops although both need a GPU. `listen` are the listen addresses of the function.
    `keep_failed` keeps the objects of a revision that does not become ready. `monitoring` adds
    resources for Prometheus. `force_conflicts` takes over fields that other clients own instead of
    failing, `show_conflicts` turns that failure into a warning; both have no effect on platforms
    without other clients.
    """

    force: bool = False
    overlap: bool = False
    listen: str = ""
    keep_failed: bool = False
    monitoring: bool = False
    force_conflicts: bool = False
    show_conflicts: bool = False

    def require_supported(
        self, platform: str, supported: frozenset[str], hint: str | None = None
    ) -> None:
        """Raise `UsageError` if an option is set that the platform does not support."""
        allowed = supported | {"force_conflicts", "show_conflicts"}
        options = [item.name for item in fields(self) if getattr(self, item.name)]
        if unsupported := sorted(set(options) - allowed):
            raise UsageError(
                f"the {platform} platform has no option {', '.join(unsupported)}", hint=hint
            )


NO_OPTIONS = PlanOptions()


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that `apply` will make.

    `left_out` holds build lines that the platform cannot run, a possible cause of a failure.
    `manifests` are the resources in the form that users keep in git, on platforms that have them;
    `needs` describes further requirements of the manifests. `refusal` is the error that `apply`
    would raise in the present state.
    """

    function: Function
    artifact: Artifact
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = ()
    options: PlanOptions = NO_OPTIONS
    left_out: tuple[str, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    needs: tuple[str, ...] = ()
    refusal: FnbuildError | None = None

    @property
    def effective_changes(self) -> tuple[Change, ...]:
        """The changes without those that keep an object."""
        return tuple(change for change in self.changes if change.verb != "keep")


@dataclass(frozen=True, slots=True)
class Deployment:
    """The current state of a function on a platform.

    `function` is the stored configuration. `revision` counts from 1. `replicas` is
    (available, desired). `http_port` is the open port on this machine or node, 0 if there is none.
    `changing` describes a change by another process, such as "being deployed from HOST:DIR"; it is
    "" if there is none.
    """

    function: Function
    platform: str
    state: FunctionState
    message: str = ""
    revision: int = 0
    http_port: int = 0
    internal_urls: tuple[str, ...] = ()
    external_urls: tuple[str, ...] = ()
    replicas: tuple[int, int] = (0, 0)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    changing: str = ""

    def with_change(self, by: str) -> Deployment:
        """Return the deployment as `building` during the change `by` another process, if any."""
        if not by:
            return self
        return replace(self, state="building", message=f"it is {by}", changing=by)

    @property
    def name(self) -> str:
        return self.function.metadata.name

    @property
    def url(self) -> str:
        """The URL of the function from this machine; "" if there is none."""
        for address in (*self.external_urls, *self.internal_urls):
            return address if "://" in address else f"http://{address}"
        return f"http://127.0.0.1:{self.http_port}" if self.http_port else ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded deploy of a function. `created` is an ISO 8601 time in UTC.

    An `active` revision serves, a `pending` one is starting, a `failed` one never became ready.
    """

    number: int
    created: str
    state: Literal["active", "pending", "superseded", "failed"]
    digest: str
    function: Function
    message: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """A group of functions. `name` is a DNS-1123 label (Nuclio's pkg/platform/abstract/project)."""

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
    """Counters of one processor since its start, and the present states of its workers.

    `requests` counts all requests, `errors` those that failed, timed out, were refused or found no
    worker. `durations` is a cumulative histogram of the time that events took in a worker: upper
    bounds in milliseconds, the last one infinite, each with its count; `milliseconds` is their sum.
    `workers` counts workers by state. `gpu_memory` is in bytes, None if it is unknown.
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
    """The result of one check of the system, as `fnbuild doctor` prints it.

    `area` is one of `checks.AREAS`, or the name of the object that was checked. `remedy` is "" if
    nothing needs to be done.
    """

    area: str
    state: Literal["ok", "warning", "failure", "skipped"]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The exclusive right to deploy one function, see `Platform.reserve`.

    `apply` applies a plan like `Platform.apply`, under this right.
    """

    apply: Callable[[Plan, Progress], Deployment]


class FunctionKey(NamedTuple):
    """The identity of a function: its namespace and name."""

    namespace: str
    name: str

    @classmethod
    def of(cls, function: Function) -> FunctionKey:
        return cls(function.metadata.namespace, function.metadata.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that no revision on record needs.

    `reason` says why it exists; `function` is the name of the function that it was made for, "" if
    that is unknown. `size` is in bytes, 0 if that is unknown.
    """

    kind: Literal["container", "image", "registry tag", "environment", "staging"]
    name: str
    reason: str
    function: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageUse:
    """The images that the revisions on a platform need.

    `references` are names, exact references and ids. `pushed` are the names, without a tag, to
    which this machine pushes. `changing` are the functions that are being deployed now, whose image
    may not be on record yet.
    """

    references: frozenset[str] = frozenset()
    pushed: frozenset[str] = frozenset()
    changing: frozenset[str] = frozenset()

    def __or__(self, other: ImageUse) -> ImageUse:
        return ImageUse(
            self.references | other.references,
            self.pushed | other.pushed,
            self.changing | other.changing,
        )


def make_change(target: str, before: Manifest | None, after: Manifest) -> Change:
    """Return the change that turns `before` into `after`."""
    if before is None:
        return Change("create", target, None, after)
    return Change("keep" if before == after else "update", target, before, after)


def as_replacement(change: Change) -> Change:
    """Return a `replace` for a `keep`, and any other change as it is."""
    return (
        Change("replace", change.target, change.before, change.after)
        if change.verb == "keep"
        else change
    )


def with_new_revision(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes with a new revision: each start is a revision, even of the same code."""
    return tuple(
        as_replacement(change) if change.target == REVISION_TARGET else change for change in changes
    )


def function_not_found(
    namespace: str, name: str, functions: Iterable[tuple[str, str]]
) -> NotFoundError:
    """Return the error for a missing function; `functions` are all others (namespace, name)."""
    message = f"there is no function {name} in namespace {namespace}"
    keys = list(functions)
    elsewhere = [space for space, other in keys if other == name]
    close = closest(name, (other for space, other in keys if space == namespace))
    hint = "`fnbuild get functions` lists them"
    if elsewhere:
        hint = f"it is in namespace {' and '.join(elsewhere)}: `-n {elsewhere[0]}`"
    elif close:
        hint = f'did you mean "{close}"?'
    return NotFoundError(message, hint=hint)


class Platform(Protocol):
    """The interface of every platform. All names are function names within one namespace."""

    name: str
    artifact_kind: Literal["folder", "image"]
    """The kind of artifact that `plan` and `apply` take."""

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        """Return the changes that a deploy would make. Reads the platform's state only."""

    def reserve(
        self, function: Function, progress: Progress
    ) -> AbstractContextManager[Reservation]:
        """Hold the exclusive right to deploy the function until the block ends.

        Raises `BusyError` at once during another change of the function. The pipeline builds inside
        the block, so a deploy that would be refused builds and pushes nothing. The right does not
        expire during a long build, and a block that fails before `apply` leaves nothing behind. The
        remains of a killed deploy may be removed first; `progress` reports it.
        """

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        """Reserve the function, apply the plan and wait until the new revision is ready.

        Raises `NotReadyError` with the handler's own error if it does not become ready (the
        previous revision keeps running), and `BusyError` during another change of the function.
        """

    def problems(self) -> list[str]:
        """Return the problems of the platform itself, one sentence each."""

    def examine(
        self,
        namespace: str,
        *,
        areas: Collection[str] = (),
        image: str = "",
        architecture: str = "",
    ) -> Iterator[Finding]:
        """Check the platform's health and yield each finding at once.

        Leaves no changes behind. `areas` selects checks; empty means all. `image` is an image that
        was just pushed, for a test of pulling it; `architecture` (`amd64`) is that of built images.
        """

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        """Return all functions of the namespace, sorted by name.

        A function that another process changes is `building`, and `changing` describes the change.
        """

    def deployment(self, namespace: str, name: str) -> Deployment:
        """Return one function; raise `NotFoundError` if it does not exist."""

    def with_secrets(self, deployment: Deployment) -> Function:
        """Return the function with the values of its secret variables.

        Other methods may return references in place of these values.
        """

    def change_counter(self) -> int:
        """Return a number that changes when functions may have changed, without waiting.

        It is constant on platforms that do not report changes.
        """

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        """Provide a URL of the function for this machine during the block; "" if there is none."""

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        """Delete the function and its objects; return False if it does not exist.

        With `image`, its images that nothing else uses are removed as well.
        """

    def logs(  # noqa: PLR0913 - independent filters
        self,
        namespace: str,
        name: str,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        until: Event | None = None,
    ) -> Iterator[LogRecord]:
        """Return an iterator over log records, oldest first. `since` is in seconds since the epoch.

        The position in the log is fixed on return: a record written after the call is not skipped.
        With `follow` the iterator continues with new records, and ends soon after `until` is set.
        """

    def previous_logs(
        self,
        namespace: str,
        name: str,
        *,
        since: float | None = None,
        tail: int | None = None,
    ) -> Iterator[LogRecord]:
        """Return the log records of the previous containers, oldest first.

        Raises `UsageError` on platforms whose log continues across restarts: `logs` has it all.
        """

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        """Return the restarts by function; functions without restarts are left out.

        The mapping is empty on platforms that do not count them.
        """

    def replica_names(self, namespace: str, name: str) -> list[str]:
        """Return the names of the function's replicas that have a log; raise `NotFoundError`.

        If there are several, the field `pod` of a log record names its replica.
        """

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        """Return the statistics of the function's processors by unique names.

        Processors that do not answer at once, or do not count, are left out.
        """

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        """Return the recorded revisions, newest first."""

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,
    ) -> Deployment:
        """Run a recorded revision again as a new revision, whose message names its origin.

        Without a number it is the newest revision that served before the present code and differs
        from it, so a second rollback goes further back. Raises `NotFoundError` if there is none.
        `PlanOptions` describes `force_conflicts`.
        """

    def redeploy(
        self, namespace: str, name: str, progress: Progress, *, force_conflicts: bool = False
    ) -> Deployment:
        """Start the stored function again from its recorded code."""

    def store_imported(self, function: Function) -> Deployment:
        """Record a function in state `imported`, without code."""

    def functions_to_restore(self) -> list[FunctionKey]:
        """Return the functions of all namespaces that should run but need `restore` to start again.

        Functions that a user has stopped, or that are being changed, are not among them.
        """

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        """Start the functions that should run but do not; return the names of those that got ready.

        With `function` only that function is started, and its failure is raised, or `BusyError`
        during another change. Otherwise failures are reported to `progress`.
        """

    def image_use(self, namespace: str) -> ImageUse:
        """Return the images that the revisions of all namespaces need.

        If the platform cannot list all namespaces, the result is about this one only. Raises
        `ForbiddenError` if the images cannot be determined.
        """

    def leftovers(self) -> list[Leftover]:
        """List the remains of killed deploys and deleted revisions, except images."""

    def discard(self, leftover: Leftover) -> bool:
        """Remove a leftover; return False if it no longer exists or is needed again."""

    def projects(self, namespace: str) -> list[Project]:
        """Return all projects, sorted by name; `default` always exists."""

    def create_project(self, project: Project) -> bool:
        """Create the project; return False if it exists."""

    def update_project(self, project: Project) -> bool:
        """Replace all fields of the project; return False if it does not exist."""

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        """Delete the project; return False if it does not exist.

        Raises `PreconditionError` if it has functions and `cascade` is False.
        """

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        """Return the folder with the recorded code of a revision, if the platform keeps it.

        For a function in state `imported` it is the folder of the import.
        """
