"""The process platform: `Platform`, implemented with the store and the supervisor."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

from fnbuild import trees
from fnbuild.datadir import function_dir
from fnbuild.errors import (
    ConfigError,
    NotReadyError,
)
from fnbuild.function.types import Function, to_dict
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_OPTIONS,
    Artifact,
    Deployment,
    Finding,
    FunctionKey,
    Leftover,
    LogOptions,
    LogRecord,
    Plan,
    PlanOptions,
    Platform,
    Progress,
    Project,
    Reservation,
    Revision,
    Statistics,
    imported_code,
)
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.errors import function_exists_error
from fnbuild.platforms.process import (
    deploys,
    doctor,
    foreground_records,
    function_log,
    function_state,
    layout,
    records,
    revisions,
    supervisor_client,
)
from fnbuild.platforms.process.isolation import isolated_users
from fnbuild.platforms.process.layout import control_socket, launched_processors, log_path
from fnbuild.platforms.process.processor_client import (
    ProcessorUnreachableError,
    listening_pid,
    request,
)
from fnbuild.platforms.processor_status import parse_metrics
from fnbuild.platforms.projects import members_to_delete, with_default_project
from fnbuild.store import FunctionRow, ProjectRow, Store

_CONCURRENT_PROBES = 8


@dataclass(frozen=True, slots=True)
class StartResult:
    """The result of `up`: the number of functions that should run, and those that do not."""

    functions: int
    failed: tuple[str, ...] = ()


class ProcessPlatform(Platform):
    """The platform that runs functions as supervised processes on this machine."""

    name = function_state.PLATFORM_NAME
    artifact_kind = "folder"
    needs_running_service = False
    start_command = "fnbuild up"

    def may_be_probed(self) -> bool:
        return "KUBERNETES_SERVICE_HOST" not in os.environ  # a pod is no machine for processes

    # Deploys

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        with Store.open() as store:
            return deploys.plan(store, function, artifact, options)

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        with records.locked_store(FunctionKey.of(function), "deployed") as store:
            # These fail before the build if the deploy cannot succeed.
            isolated_users()
            supervisor_client.running_supervisor()
            yield Reservation(partial(deploys.apply, store))

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002 - there are no other clients
    ) -> Deployment:
        key = FunctionKey(namespace, name)
        with records.locked_store(key, "rolled back", must_exist=True) as store:
            target, origin = records.history_of(store, key).choose_for_rollback(revision, progress)
            return deploys.rerun_revision(key, target, origin, store, progress)

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = FunctionKey(namespace, name)
        with records.locked_store(key, "redeployed", must_exist=True) as store:
            selected = records.history_of(store, key).choose_for_redeploy()
            if selected is not None:
                return deploys.rerun_revision(key, *selected, store, progress)
            return deploys.deploy_imported(key, store, progress)

    def store_imported(self, function: Function) -> Deployment:
        key = FunctionKey.of(function)
        with records.locked_store(key, "imported") as store:
            row = store.function(*key)
            if row is not None and row.desired != "imported":
                raise function_exists_error(key)
            store.put_function(
                FunctionRow(
                    *key,
                    project=function.project,
                    desired="imported",
                    state="imported",
                    config=to_dict(function),
                )
            )
            return records.load_deployment(store, key)

    # Queries

    def problems(self) -> list[str]:
        with Store.open() as store:
            return function_state.platform_problems(store.functions())

    def examine(
        self,
        namespace: str,  # noqa: ARG002 - the checks are the same for all
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - it runs folders
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        return doctor.examine(areas)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        with Store.open() as store, ThreadPoolExecutor(_CONCURRENT_PROBES) as pool:
            all_rows = store.functions(namespace)
            rows = [row for row in all_rows if project in (None, row.project)]
            deployed = list(pool.map(lambda row: self._to_deployment(store, row), rows))
        names = {row.name for row in all_rows}
        running = foreground_records.deployments(namespace, self.name, project)
        combined = [
            *deployed,
            *(deployment for deployment in running if deployment.name not in names),
        ]
        return sorted(combined, key=lambda deployment: deployment.name)

    def _to_deployment(self, store: Store, row: FunctionRow) -> Deployment:
        """Return the function; one with an invalid record must not hide the others."""
        try:
            return function_state.to_deployment(row, records.active_revision(store, row))
        except ConfigError as error:
            function = placeholder_function((row.namespace, row.name), row.project)
            return Deployment(function, self.name, "error", error.message)

    def deployment(self, namespace: str, name: str) -> Deployment:
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            if (
                store.function(*key) is None
                and (record := foreground_records.find(key)) is not None
            ):
                return foreground_records.to_deployment(record, self.name)
            return records.load_deployment(store, key)

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            records.require_function(store, key)
            return [records.to_revision(row) for row in store.revisions(*key)]

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            history = records.history_of(store, key)
            recorded = history.latest if revision is None else history.find(revision)
        if recorded is None:
            return imported_code.find(self.name, key)
        return recorded.code if recorded.code.is_dir() else None

    def change_counter(self) -> int:
        return self._watched_store.change_counter + foreground_records.change_counter()

    @cached_property
    def _watched_store(self) -> Store:
        """The store, kept open so that its change counter goes on."""
        return Store.open()

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            records.require_function(store, key)
        return function_log.read(log_path(key), options)

    def replica_names(self, namespace: str, name: str) -> list[str]:
        with Store.open() as store:
            row = records.require_function(store, FunctionKey(namespace, name))
        return [name] if row.desired == "running" and row.revision else []

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        metadata, number = deployment.function.metadata, deployment.revision
        control = control_socket(FunctionKey(metadata.namespace, metadata.name), number)
        try:
            counted = parse_metrics(request(control, "/metrics").decode())
        except (ProcessorUnreachableError, UnicodeDecodeError):
            return {}
        return {f"{metadata.name} {number}": counted} if counted else {}

    # Deletion

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:  # noqa: ARG002 - there are none here
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            recorded = store.function(*key) is not None
        if not recorded:
            foreground_records.check_not_foreground(key)
            if not function_dir(*key).is_dir():
                return False
        with records.locked_store(key, "deleted") as store:
            deploys.stop_processors(key)
            deleted = store.delete_function(*key)
            trees.try_remove(function_dir(*key))
            revisions.prune_environments(store)
        return deleted

    # All functions

    def functions_to_restore(self) -> list[FunctionKey]:
        with Store.open() as store:
            return [*function_state.functions_to_restore(store.functions())]

    def restore(self, progress: Progress, function: FunctionKey | None = None) -> tuple[str, ...]:
        if function_state.is_supervisor_in_transition():
            return ()
        if function is None:
            names = {key.name for key in self.functions_to_restore()}
            return tuple(
                name
                for name in supervisor_client.call("restore", progress)["ready"]
                if name in names
            )
        with records.locked_function(function, "started again") as row:
            if not function_state.should_run(row):
                return ()
        result = supervisor_client.call("restore", progress, namespace=row.namespace, name=row.name)
        if result["functions"] and not result["ready"]:
            deployment = self.deployment(*function)
            raise NotReadyError(
                f"{row.name} was started, but is {deployment.state}",
                detail=deployment.message or None,
                hint=f"`fnbuild logs {row.name}` shows its log",
            )
        return tuple(result["ready"])

    def up(self, progress: Progress = supervisor_client.ignore_progress) -> StartResult:
        """Start the supervisor and every function that should run."""
        result = supervisor_client.call("up", progress)
        return StartResult(int(result["functions"]), tuple(result["failed"]))

    def down(self, progress: Progress = supervisor_client.ignore_progress) -> int:
        """Stop every processor and then the supervisor; return the number of functions that ran.

        `up` starts them again. A deploy in progress does not start its function any more.
        """
        layout.mark_down()
        runs = any(
            listening_pid(control_socket(key, number)) for key, number in launched_processors()
        )
        if not runs and supervisor_client.running_supervisor() is None:
            return 0
        supervisor_client.ensure_running()
        supervisor = supervisor_client.running_supervisor()
        stopped = int(supervisor_client.call("down", progress)["functions"])
        if supervisor is not None:
            supervisor_client.wait_until_ended(supervisor)
        return stopped

    # Leftovers

    def leftovers(self) -> list[Leftover]:
        with Store.open() as store:
            return revisions.leftovers(store)

    def discard(self, leftover: Leftover) -> bool:
        with Store.open() as store:
            return revisions.discard_leftover(store, leftover)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        with Store.open() as store:
            recorded = [Project(**asdict(row)) for row in store.projects(namespace)]
        return with_default_project(namespace, recorded)

    def create_project(self, project: Project) -> bool:
        if project.name == DEFAULT_PROJECT:
            return False
        with Store.open() as store:
            return store.add_project(ProjectRow(**asdict(project)))

    def update_project(self, project: Project) -> bool:
        row = ProjectRow(**asdict(project))
        with Store.open() as store:
            if project.name == DEFAULT_PROJECT:
                store.add_project(row)
            return store.update_project(row)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        with Store.open() as store:
            functions = [row.name for row in store.functions(namespace) if row.project == name]
            for member in members_to_delete(name, functions, cascade=cascade):
                self.delete(namespace, member)
            return store.delete_project(namespace, name)
