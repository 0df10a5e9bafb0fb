"""The protocol that every platform implements, and the values that it exchanges.

A platform turns a `Function` and an `Artifact` into a `Plan` without changing anything, and applies
the plan. Functions, revisions and projects are returned as `Deployment`, `Revision` and `Project`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple, Protocol

from fnbuild.builder.staging import Artifact
from fnbuild.errors import FnbuildError, NotFoundError, UsageError
from fnbuild.spec.hints import closest
from fnbuild.spec.types import Function

_DNS_1123 = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

Manifest = dict[str, Any]
"""A resource as plain JSON values: what `--dry-run -o yaml` prints and `diff` compares."""

FunctionState = Literal[
    "building", "ready", "unhealthy", "error", "imported", "scaledToZero", "standby", "stopped"
]
"""Nuclio's function states, and `stopped` for a function whose processes are down on purpose."""


@dataclass(frozen=True, slots=True)
class Change:
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
    steps: tuple[Change, ...]
    warnings: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    needs: tuple[str, ...] = ()
    refusal: FnbuildError | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
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


class FunctionKey(NamedTuple):
    """One function among all namespaces. Platforms add the names of what they make of it."""

    namespace: str
    name: str

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


REVISION_TARGET = "revision"


def make_change(target: str, before: Manifest | None, after: Manifest) -> Change:
    """Creating it, changing it, or keeping it as it is."""
    if before is None:
        return Change("create", target, None, after)
    return Change("keep" if before == after else "update", target, before, after)


def as_replacement(step: Change) -> Change:
    """Made again, though what it is has not changed; any other step as it is."""
    return Change("replace", step.target, step.before, step.after) if step.verb == "keep" else step


def with_new_revision(steps: Iterable[Change]) -> tuple[Change, ...]:
    """Whatever starts something is a revision of its own, of the same code too."""
    return tuple(as_replacement(step) if step.target == REVISION_TARGET else step for step in steps)


def function_not_found(
    namespace: str, name: str, known: Iterable[tuple[str, str]]
) -> NotFoundError:
    """The error with its remedy; `known` are the functions there are, by namespace and name."""
    message = f"there is no function {name} in namespace {namespace}"
    places = list(known)
    elsewhere = [space for space, one in places if one == name]
    close = closest(name, (one for space, one in places if space == namespace))
    hint = "`fnbuild get functions` lists them"
    if elsewhere:
        hint = f"it is in namespace {' and '.join(elsewhere)}: `-n {elsewhere[0]}`"
    elif close:
        hint = f'did you mean "{close}"?'
    return NotFoundError(message, hint=hint)


CONFLICT_OPTIONS = frozenset({"force_conflicts", "show_conflicts"})
"""Options of a plan about what others have changed on the platform: take it over instead of
failing, or tell of it in a warning, for a plan that is only shown. Where nobody else writes they do
nothing.
"""


class Platform(Protocol):
    """The shape of every platform. All names are function names within one namespace."""

    name: str
    runs: Literal["folder", "image"]
    """What an artifact has to be for `plan` and `apply`."""

    def plan(self, function: Function, artifact: Artifact, **options: Any) -> Plan:
        """What a deploy would change. Reads the platform's state, changes nothing."""

    def reserve(
        self, function: Function, progress: Progress
    ) -> AbstractContextManager[Reservation]:
        """Hold the exclusive right to deploy the function until the block ends.

        Raises `BusyError` at once when another change of the function is under way. The pipeline
        builds inside the block, so that a deploy that would be refused builds and pushes nothing.
        The right is held however long a build takes, and a block that fails before `apply` leaves
        nothing behind. The remains of a killed deploy may be removed first; `progress` reports it.
        """

    def apply(self, plan: Plan, progress: Progress) -> Deployment:
        """Reserve the function, carry out the plan and wait until the new revision is ready.

        Raises `NotReadyError` with the handler's own error if it does not become ready (the
        previous revision keeps running), and `BusyError` during another change of the function.
        """

    def notices(self) -> list[str]:
        """What is wrong with the platform itself, a sentence each; none when all is well."""

    def examine(
        self,
        namespace: str,
        *,
        areas: Collection[str] = (),
        image: str = "",
        architecture: str = "",
    ) -> Iterator[Finding]:
        """What can be said of the platform's health, one by one as it is found out.

        Changes nothing that stays. `areas` are those to look at, all when empty. `image` was just
        pushed, to be pulled by the platform; `architecture` (`amd64`) is what builds make.
        """

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        """All functions of the namespace, by name.

        One that somebody else changes just now is `building`, whatever serves meanwhile, and
        `changing` says who that is; so it is where a function is asked for alone.
        """

    def deployment(self, namespace: str, name: str) -> Deployment:
        """One function, or `NotFoundError`."""

    def with_secrets(self, deployment: Deployment) -> Function:
        """Return the function with the values of its secret variables.

        Other methods may return references in place of these values.
        """

    def changes(self) -> int:
        """A number that differs once functions may have changed; the same for ever on platforms
        that tell nobody. Waits for nothing, so that it can be asked before each list.
        """

    def reach(self, deployment: Deployment) -> AbstractContextManager[str]:
        """A URL by which this machine reaches the function, while the block lasts; "" for none."""

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        """Remove the function and what belongs to it; False when there was none.

        With `image` its images go too, where it runs from images and nothing else uses them.
        """

    def logs(  # noqa: PLR0913 - what a log can be asked for
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

    def replicas(self, namespace: str, name: str) -> list[str]:
        """The names of what runs of the function and has a log of its own; `NotFoundError`.

        Where there are several, the field `pod` of a log record names the one it is from.
        """

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        """What the function's processors have counted, each by a name that no other one has.

        Only those that answer at once: where none does, or none of them counts, there are none.
        """

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        """Recorded revisions, newest first."""

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,
    ) -> Deployment:
        """Run a recorded revision again; it becomes a new one, whose message says where it is from.

        With None that is the newest that served before the code that runs now, and differs from it:
        a rollback of a rollback goes further back. `NotFoundError` when there is none.
        `force_conflicts` is the option of that name, see `OF_CONFLICTS`.
        """

    def redeploy(
        self, namespace: str, name: str, progress: Progress, *, force_conflicts: bool = False
    ) -> Deployment:
        """Start the stored function again from its recorded code."""

    def store_imported(self, function: Function) -> Deployment:
        """Record a function in state `imported`, without code."""

    def lapsed(self) -> list[FunctionKey]:
        """Functions of all namespaces that ought to run, do not, and do not come back unless
        `restore` brings them: none that somebody has stopped, or that is being changed.
        """

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        """Start again what ought to run and does not, with what it needs for that; the names of
        functions that are ready again.

        With `function` that one alone; its failure is then raised, `BusyError` when another
        change of it is under way. Without, failures are told to `progress`.
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
        """All projects, by name; `default` is always there."""

    def create_project(self, project: Project) -> bool:
        """Record it; False when it existed already."""

    def update_project(self, project: Project) -> bool:
        """Put all of it in place of what is recorded; False when there is none of that name."""

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        """Remove it; `PreconditionError` when it has functions and `cascade` is not set."""

    def source(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        """Return the folder with the recorded code of a revision, if the platform keeps it.

        For a function in state `imported` it is the folder of the import.
        """
