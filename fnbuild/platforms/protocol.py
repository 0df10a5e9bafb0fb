"""The interface that every platform implements.

A platform turns a `Function` and an `Artifact` into a `Plan` without changing anything, and applies
the plan. Functions, revisions and projects are returned as `Deployment`, `Revision` and `Project`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, Protocol

from fnbuild.builder.artifact import Artifact
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.function.types import Function
from fnbuild.platforms import access
from fnbuild.platforms.base import (
    Deployment,
    Finding,
    FunctionKey,
    ImageUse,
    Leftover,
    Project,
    RecordingAction,
    Reservation,
    Restarts,
    Revision,
    SleepAction,
    Statistics,
)
from fnbuild.platforms.logs import ALL_RECORDS, LogOptions, LogRecord
from fnbuild.platforms.plans import NO_OPTIONS, Plan, PlanOptions
from fnbuild.progress import Progress


class Platform(Protocol):
    """The interface of every platform. A `name` is that of a function within its
    namespace, or of a project in methods about projects.

    Platforms inherit from it. A member that has a value or a body here is the answer of a platform
    without that ability; platforms implement the others.
    """

    name: str
    artifact_kind: Literal["folder", "image"]
    """The kind of artifact that `plan` and `apply` take."""
    image_engine: str = ""
    """The engine that builds and runs its images; "" for images from a registry, or for none."""
    needs_running_service: bool = True
    """False if the platform starts what it needs itself, and so is always available."""
    can_scale_to_zero: bool = False
    """True if a function is stopped by setting its number of replicas to 0."""
    needs_kubernetes_names: bool = False
    """True if the name of a function has to be valid in Kubernetes."""
    start_command: str = "fnbuild redeploy {}"
    """The command that starts a stopped function, whose name replaces `{}`."""
    authentication: Literal["served", "passed-on", "absent"] = "served"
    """The effect of a function's authentication: that of the processor, that of Nuclio, or none."""
    has_gpu_groups: bool = False
    """True if functions of this machine wait for room in their GPU group."""
    runs_trials: bool = False
    """True if an artifact can run beside the function; see `trial`."""
    records_requests: bool = False
    """True if the recorded requests of functions can be read."""
    auto_reason: str = ""
    """The reason why `--platform auto` selects the platform, if it answers."""

    @property
    def pulls_images(self) -> bool:
        """True if the platform pulls its images from a registry."""
        return self.artifact_kind == "image" and not self.image_engine

    def runs_code(self, function: Function) -> bool:
        """Return False if the function has no code: a server of the platform loads its model."""
        return True

    def may_be_probed(self) -> bool:
        """Return True if the platform may be tried although nothing selects it.

        `--platform auto` and the dashboard then try it. No request is sent.
        """
        return False

    def is_configured(self) -> bool:
        """Return True if the settings of this machine name its service. No request is sent."""
        return False

    def default_namespace(self) -> str:
        """Return the namespace that the settings of its service name, or ""."""
        return ""

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
        with self.reserve(plan.function, progress) as reservation:
            return reservation.apply(plan, progress)

    def require_available(self) -> None:
        """Raise the reason why the platform's service cannot be used."""
        return

    def problems(self) -> list[str]:
        """Return the problems of the platform itself, one sentence each."""
        try:
            self.require_available()
        except FnbuildError as error:
            return [error.line]
        return []

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

        A function that another process changes is `building`, and `ongoing_change` describes it.
        An interrupted change may be finished or undone first.
        """

    def deployment(self, namespace: str, name: str) -> Deployment:
        """Return one function; raise `NotFoundError` if it does not exist."""

    def function_with_secrets(self, deployment: Deployment) -> Function:
        """Return the function with the values of its secret variables.

        Other methods may return references in place of these values.
        """
        return deployment.function

    def change_counter(self) -> int:
        """Return a number that changes when functions may have changed, without waiting.

        It is constant on platforms that do not report changes.
        """
        return 0

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        """Provide a URL of the function for this machine during the block; "" if there is none."""
        return nullcontext(deployment.url)

    def request_headers(self, deployment: Deployment) -> dict[str, str]:
        """Return the headers that a request to the function needs: its host, or a token."""
        host = {"Host": deployment.host} if deployment.host else {}
        return host | access.access_headers(self, deployment)

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        """Delete the function and its objects; return False if it does not exist.

        With `image`, its images that nothing else uses are removed as well.
        """

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        """Return an iterator over log records, oldest first.

        The position in the log is fixed on return: a record written after the call is not skipped.
        """

    def previous_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        """Return the log records of the previous containers, oldest first; they are not followed.

        Raises `UsageError` on platforms whose log continues across restarts: `logs` has it all.
        """
        raise UsageError(
            "the log of this platform continues across restarts, so there is no previous log",
            hint=f"`fnbuild logs {name}` shows the records before the restart as well",
        )

    def init_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        """Return the log records of the container that fetches the model before the function runs.

        Raises `UsageError` on platforms without one.
        """
        raise UsageError(
            f"functions of the {self.name} platform have no container that fetches a model",
            hint=f"`fnbuild logs {name}` shows the function's own log",
        )

    def forward_port(
        self, deployment: Deployment, local_port: int, port: int
    ) -> AbstractContextManager[str]:
        """Forward a local port to a port of the function during the block; provide the local URL.

        A local port of 0 is any free one. Raises `UsageError` on platforms without a cluster.
        """
        raise UsageError(
            f"functions of the {self.name} platform need no forwarded port",
            hint=f"{deployment.name} is at {deployment.url}" if deployment.url else None,
        )

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        """Return the restarts by function; functions without restarts are left out.

        The mapping is empty on platforms that do not count them.
        """
        return {}

    def replica_names(self, namespace: str, name: str) -> list[str]:
        """Return the names of the function's replicas that have a log; raise `NotFoundError`.

        If there are several, the field `pod` of a log record names its replica.
        """

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        """Return the statistics of the function's processors by unique names.

        Processors that do not answer at once, or do not count, are left out.
        """
        return {}

    def change_sleep(self, namespace: str, name: str, action: SleepAction) -> None:
        """Put the function's workers to sleep or wake them, and wait until they are.

        Raises `PreconditionError` if they cannot fall asleep now, `NotReadyError` with the
        handler's own error if they cannot wake, and `UsageError` on platforms without sleep.
        """
        raise UsageError(
            f"functions of the {self.name} platform do not sleep",
            hint=f"`fnbuild get function {name}` shows where it runs",
        )

    def recordings(self, namespace: str, name: str, action: RecordingAction) -> list[bytes]:
        """List or export the recorded requests of each replica, or clear them.

        The results are JSON or, for `export`, tar archives; see `fnbuild.runtime.recording.files`.
        Raises `UsageError` on platforms that record none, and `NotReadyError` without replicas.
        """
        raise UsageError(
            f"functions of the {self.name} platform record no requests",
            hint="requests are recorded on the platforms process, local and kube",
        )

    def revision_artifact(self, namespace: str, name: str, revision: int) -> Artifact | None:
        """Return the artifact of a recorded revision; None if it is not there any more."""
        folder = self.code_folder(namespace, name, revision)
        return Artifact("folder", str(folder), "") if folder is not None else None

    def trial(
        self,
        function: Function,
        artifact: Artifact,
        progress: Progress,
    ) -> AbstractContextManager[str]:
        """Run an artifact beside the function, and provide its URL during the block.

        Nothing that serves is changed. The caller has reserved the function. Raises `NotReadyError`
        if it does not become ready, and `UsageError` on platforms that cannot run it.
        """
        raise UsageError(
            f"the {self.name} platform cannot run {function.metadata.name} a second time beside the"
            " one that serves",
            hint="deploy it under another name, and compare with that function",
        )

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

        Functions that a user has stopped, or that are being changed, are not among them. There are
        none on a platform whose service restarts functions.
        """
        return []

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        """Start the functions that should run but do not; return the names of those that got ready.

        With `function` only that function is started, and its failure is raised, or `BusyError`
        during another change. Otherwise failures are reported to `progress`.
        """
        return ()

    def image_use(self, namespace: str) -> ImageUse:
        """Return the images that the revisions of all namespaces need.

        If the platform cannot list all namespaces, the result is about this one only. Raises
        `ForbiddenError` if the images cannot be determined.
        """
        return ImageUse()

    def leftovers(self) -> list[Leftover]:
        """List the remains of killed deploys and deleted revisions, except images."""
        return []

    def discard(self, leftover: Leftover) -> bool:
        """Remove a leftover; return False if it no longer exists or is needed again."""
        return False

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
