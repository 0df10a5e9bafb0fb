"""A platform of a cluster that keeps the records of its functions in ConfigMaps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Generic

from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_CONNECT_OPTIONS,
    ConnectOptions,
    Deployment,
    FunctionKey,
    LogOptions,
    LogRecord,
    Plan,
    PlanOptions,
    Platform,
    Progress,
    Project,
    Reservation,
    Restarts,
    Revision,
    imported_code,
    revision_records,
)
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.errors import function_exists_error, function_not_found_error
from fnbuild.platforms.kubeclient import connection, logs, project_records
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.function_records import (
    FunctionLease,
    FunctionRecord,
    R,
    RecordKind,
)
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.projects import members_to_delete
from fnbuild.platforms.revision_records import RevisionOrigin, stored_config

_MAX_THREADS = 8


class RecordedPlatform(Platform, Generic[R]):
    """Base of platforms whose functions have records of one kind.

    `container` is the container of a function's code in its pods.
    """

    needs_kubernetes_names = True
    records: RecordKind[R]
    container: str

    def __init__(self, options: ConnectOptions = NO_CONNECT_OPTIONS):
        self._connect_options = options

    def default_namespace(self) -> str:
        return connection.default_namespace(self._connect_options)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster; the connection is made on first use."""
        return connection.connect(self._connect_options)

    # The parts of a platform

    @abstractmethod
    def roll_out(self, lease: FunctionLease[R], plan: Plan, progress: Progress) -> None:
        """Carry out a plan while the lease is held."""

    @abstractmethod
    def roll_out_again(
        self,
        lease: FunctionLease[R],
        target: R,
        origin: RevisionOrigin,
        options: PlanOptions,
        progress: Progress,
    ) -> None:
        """Run a recorded revision as a new one while the lease is held."""

    @abstractmethod
    def run_imported(self, record: FunctionRecord[R], progress: Progress) -> Deployment:
        """Run a function that was imported and never deployed."""

    @abstractmethod
    def pod_source(self, record: FunctionRecord[R]) -> Callable[[], list[Pod]]:
        """Return a function that returns the pods of the code, oldest first."""

    def validated_key(self, function: Function) -> FunctionKey:
        """Return the key of a function; raise `InputError` for a name that it cannot have."""
        return FunctionKey.of(function)

    def existing_record(self, namespace: str, name: str) -> FunctionRecord[R]:
        """Return the record of a function, which is empty for one of another tool.

        Raises `NotFoundError` if the function does not exist.
        """
        record = self.records.read(self.cluster, FunctionKey(namespace, name))
        if not record.exists:
            everywhere = if_allowed(lambda: self.records.read_all(self.cluster, None), [])
            raise function_not_found_error(namespace, name, [item.key for item in everywhere])
        return record

    def require_record(self, record: FunctionRecord[R]) -> None:
        """Raise `NotFoundError` for a function of another tool."""

    # Deploying

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        key = self.validated_key(function)
        with self.records.hold_lease(self.cluster, key, "deployed", function) as lease:

            def apply(plan: Plan, progress: Progress) -> Deployment:
                self.roll_out(lease, plan, progress)
                deployment = self.deployment(*key)
                return replace(deployment, warnings=(*plan.warnings, *deployment.warnings))

            yield Reservation(apply)

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,
    ) -> Deployment:
        record = self._recorded(namespace, name)
        target, origin = record.history.choose_for_rollback(revision, progress)
        return self._rerun("rolled back", target, origin, progress, force_conflicts)

    def redeploy(
        self, namespace: str, name: str, progress: Progress, *, force_conflicts: bool = False
    ) -> Deployment:
        record = self._recorded(namespace, name)
        selected = record.history.choose_for_redeploy()
        if selected is None:
            return self.run_imported(record, progress)
        target, origin = selected
        return self._rerun("redeployed", target, origin, progress, force_conflicts)

    def _recorded(self, namespace: str, name: str) -> FunctionRecord[R]:
        record = self.existing_record(namespace, name)
        self.require_record(record)
        return record

    def _rerun(
        self,
        participle: str,
        target: R,
        origin: RevisionOrigin,
        progress: Progress,
        force_conflicts: bool,
    ) -> Deployment:
        options = PlanOptions(force_conflicts=force_conflicts)
        with self.records.hold_lease(self.cluster, target.key, participle) as lease:
            self.roll_out_again(lease, target, origin, options, progress)
            return self.deployment(*target.key)

    def store_imported(self, function: Function) -> Deployment:
        key = self.validated_key(function)
        with self.records.hold_lease(self.cluster, key, "imported", function) as lease:
            if lease.revisions or self.has_objects(key):
                raise function_exists_error(key)
            store = self.records.secret_store(self.cluster, key)
            lease.imported_config = store.with_references(stored_config(function))
            store.save({})
        return self.deployment(*key)

    def has_objects(self, key: FunctionKey) -> bool:  # noqa: ARG002
        """Return True if another tool has deployed something by the name of the function."""
        return False

    def function_with_secrets(self, deployment: Deployment) -> Function:
        key = FunctionKey.of(deployment.function)
        store = self.records.secret_store(self.cluster, key)
        return function_from_dict(store.with_values(to_dict(deployment.function)), deployment.name)

    # Reading

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        record = self.existing_record(namespace, name)
        active = record.applied if record.applied and not record.applied.failed else record.serving
        return revision_records.to_revisions(record.revisions, active)

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        record = self.existing_record(namespace, name)
        pods = self._pod_names(record)
        if not options.follow and not pods():
            return revision_records.failure_log(record.revisions)
        return logs.read_logs(self.cluster, namespace, pods, options, self.container)

    def previous_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        pods = self.replica_names(namespace, name)
        return logs.read_previous_logs(self.cluster, namespace, pods, options, self.container)

    def replica_names(self, namespace: str, name: str) -> list[str]:
        return self._pod_names(self.existing_record(namespace, name))()

    def _pod_names(self, record: FunctionRecord[R]) -> Callable[[], list[str]]:
        pods = self.pod_source(record)
        return lambda: [pod.name for pod in pods()]

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        """Return None for a deployed function: its code is in an image or an archive."""
        record = self.existing_record(namespace, name)
        if revision is not None:
            record.history.find(revision)
        elif not record.revisions:
            return imported_code.find(self.name, record.key)
        return None

    def list_deployments(
        self,
        functions: Iterable[tuple[FunctionRecord[R], Callable[[], Deployment]]],
        project: str | None,
    ) -> list[Deployment]:
        """Return functions by their records; an invalid one does not hide the others."""

        def describe(item: tuple[FunctionRecord[R], Callable[[], Deployment]]) -> Deployment:
            record, read = item
            try:
                return read()
            except UnavailableError:
                raise
            except FnbuildError as error:
                function = placeholder_function(record.key, record.project)
                return Deployment(function, self.name, "error", error.message)

        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            deployments = list(pool.map(describe, functions))
        return [each for each in deployments if project in (None, each.function.project)]

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return project_records.list_projects(self.cluster, namespace)

    def create_project(self, project: Project) -> bool:
        return project_records.create_project(self.cluster, project)

    def update_project(self, project: Project) -> bool:
        return project_records.update_project(self.cluster, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        records = self.records.read_all(self.cluster, namespace)
        members = sorted(record.key.name for record in records if record.project == name)
        for member in members_to_delete(name, members, cascade=cascade):
            self.delete(namespace, member)
        return project_records.delete_project(self.cluster, namespace, name)


def count_restarts(pods: Sequence[Pod]) -> Restarts | None:
    """Return the restarts of pods with the reason of the last one, None without any."""
    count = sum(pod.restarts for pod in pods)
    if not count:
        return None
    ends = [status.last_termination for pod in pods for status in pod.container_statuses]
    last = max(ends, key=lambda end: end.finished)
    return Restarts(count, last.reason, last.finished)
