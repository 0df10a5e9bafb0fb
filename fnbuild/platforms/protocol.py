"""The protocol that every platform follows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any, Literal, Protocol

from fnbuild.builder.staging import Artifact
from fnbuild.platforms.keys import Key
from fnbuild.platforms.leftovers import ImageUse, Leftover
from fnbuild.platforms.model import (
    Deployment,
    Finding,
    LogRecord,
    Plan,
    Progress,
    Project,
    Reservation,
    Restarts,
    Revision,
    Statistics,
)
from fnbuild.spec.types import Function

OF_CONFLICTS = frozenset({"force_conflicts", "show_conflicts"})
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

    def lapsed(self) -> list[Key]:
        """Functions of all namespaces that ought to run, do not, and do not come back unless
        `restore` brings them: none that somebody has stopped, or that is being changed.
        """

    def restore(self, progress: Progress, function: Key | None = None) -> tuple[str, ...]:
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
