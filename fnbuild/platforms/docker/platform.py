"""The Docker platform: the implementation of the `Platform` protocol on a container engine."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from fnbuild.datadir import remove_lock
from fnbuild.errors import (
    ConfigError,
    FnbuildError,
    PreconditionError,
    UnavailableError,
)
from fnbuild.function.types import Function
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_OPTIONS,
    Artifact,
    Deployment,
    Finding,
    ImageUse,
    Leftover,
    LogOptions,
    LogRecord,
    Plan,
    PlanOptions,
    Platform,
    Progress,
    Project,
    RecordingAction,
    Reservation,
    Restarts,
    Revision,
    SleepAction,
    Statistics,
    base,
    imported_code,
    revision_records,
)
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.docker import (
    connection,
    doctor,
    function_state,
    image_code,
    inventory,
    logs,
    probes,
    records,
    recovery,
    restoration,
    rollout,
    trial,
)
from fnbuild.platforms.docker.engine import Engine, reachable_address
from fnbuild.platforms.docker.inventory import ChangeCounter, FunctionObjects
from fnbuild.platforms.docker.labels import DockerKey, key_of
from fnbuild.platforms.docker.leases import Lease
from fnbuild.platforms.errors import function_exists_error, function_not_found_error
from fnbuild.platforms.processor_status import raise_without_processor
from fnbuild.platforms.projects import members_to_delete
from fnbuild.platforms.revision_records import RevisionOrigin, imported_artifact

_MAX_THREADS = 8


class DockerPlatform(Platform):
    """Functions as containers of one engine, one container each."""

    name = function_state.PLATFORM_NAME
    artifact_kind = "image"
    image_engine = "docker"
    has_gpu_groups = True
    records_requests = True
    runs_trials = True
    auto_reason = "a container engine answers"

    def may_be_probed(self) -> bool:
        return True

    @cached_property
    def engine(self) -> Engine:
        """The engine, to which the first use connects."""
        return connection.connect()

    @cached_property
    def _change_counter(self) -> ChangeCounter:
        return ChangeCounter(lambda: self.engine)

    # Deploying

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        objects = inventory.read_function(self.engine, key_of(function))
        return rollout.plan_deploy(self.engine, objects, function, artifact, options)[0]

    @contextmanager
    def reserve(self, function: Function, progress: Progress) -> Iterator[Reservation]:
        with rollout.exclusive_change(
            self.engine, key_of(function), "deployed", progress
        ) as objects:
            yield Reservation(partial(self._apply, objects.held_lease))

    def _apply(self, lease: Lease | None, plan: Plan, progress: Progress) -> Deployment:
        """Apply a plan to a function that is reserved."""
        key = key_of(plan.function)
        rollout.pull_if_always(self.engine, plan, progress)
        # Containers may have changed since the plan was made.
        objects = inventory.read_function(self.engine, key)
        objects.held_lease = lease
        planned = rollout.plan_deploy(
            self.engine, objects, plan.function, plan.artifact, plan.options
        )
        plan = planned[0]
        if plan.effective_changes:
            rollout.apply_plan(self.engine, objects, planned, RevisionOrigin(), progress)
        else:
            progress(plan.unchanged_message)
        return self._read_deployment(key, plan.warnings)

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002 - only fnbuild writes here
    ) -> Deployment:
        key = DockerKey(namespace, name)
        self._recovered_function(key)
        with rollout.exclusive_change(self.engine, key, "rolled back", progress) as objects:
            _check_not_deployed_by_nuclio(objects)
            target, origin = records.history_of(objects).choose_for_rollback(revision, progress)
            warnings = rollout.rerun_revision(self.engine, objects, target, origin, progress)
            return self._read_deployment(key, warnings)

    def redeploy(
        self,
        namespace: str,
        name: str,
        progress: Progress,
        *,
        force_conflicts: bool = False,  # noqa: ARG002
    ) -> Deployment:
        key = DockerKey(namespace, name)
        objects = self._recovered_function(key)
        if objects.imported is not None and not objects.revisions:
            imported = imported_artifact(function_state.configuration_of(objects))
            if imported is not None:
                return self.apply(self.plan(*imported), progress)
        with rollout.exclusive_change(self.engine, key, "redeployed", progress) as objects:
            _check_not_deployed_by_nuclio(objects)
            selected = records.history_of(objects).choose_for_redeploy()
            if selected is None:
                raise revision_records.missing_code_error(
                    name, objects.imported, imported_code.find(self.name, objects.key)
                )
            warnings = rollout.rerun_revision(self.engine, objects, *selected, progress)
            return self._read_deployment(key, warnings)

    def store_imported(self, function: Function) -> Deployment:
        key = key_of(function)
        with rollout.exclusive_change(self.engine, key, "imported") as objects:
            if objects.containers or objects.records:
                raise function_exists_error(key)
            records.record_import(self.engine, function)
            return self._read_deployment(key)

    def functions_to_restore(self) -> list[base.FunctionKey]:
        return [*restoration.functions_to_restore(self.engine)]

    def restore(
        self, progress: Progress, function: base.FunctionKey | None = None
    ) -> tuple[str, ...]:
        if function is None:
            return tuple(restoration.restore_all(self.engine, progress))
        restored = restoration.restore_function(self.engine, DockerKey(*function), progress)
        return (function.name,) if restored else ()

    # Reading

    def require_available(self) -> None:
        _ = self.engine.version

    def examine(
        self,
        namespace: str,  # noqa: ARG002 - all namespaces share the engine
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - the same engine builds and runs
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        return doctor.examine(lambda: self.engine, areas)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        functions = inventory.list_functions(self.engine, namespace)
        if recovery.recover_interrupted(self.engine, functions):
            functions = inventory.list_functions(self.engine, namespace)
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            deployments = list(pool.map(self._to_deployment, functions))
        return [
            deployment
            for deployment in deployments
            if project in (None, deployment.function.project)
        ]

    def _to_deployment(self, objects: FunctionObjects) -> Deployment:
        """Return the function, in state `error` if its configuration cannot be read."""
        try:
            return function_state.to_deployment(self.engine, objects)
        except UnavailableError:
            raise
        except FnbuildError as error:
            function = placeholder_function(objects.key, _project_of_objects(objects))
            return Deployment(function, self.name, "error", error.message)

    def deployment(self, namespace: str, name: str) -> Deployment:
        return self._read_deployment(DockerKey(namespace, name))

    def _read_deployment(self, key: DockerKey, warnings: tuple[str, ...] = ()) -> Deployment:
        deployment = function_state.to_deployment(self.engine, self._recovered_function(key))
        return replace(deployment, warnings=(*warnings, *deployment.warnings))

    def _recovered_function(self, key: DockerKey) -> FunctionObjects:
        """Return the objects of an existing function; an interrupted change is repaired first."""
        objects = inventory.read_function(self.engine, key)
        if recovery.recover_interrupted(self.engine, [objects]):
            objects = inventory.read_function(self.engine, key)
        if not objects.exists:
            functions = inventory.list_all_functions(self.engine)
            raise function_not_found_error(*key, [other.key for other in functions if other.exists])
        return objects

    def change_counter(self) -> int:
        return self._change_counter.count()

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        container = self.engine.own_container
        if container is None:
            return nullcontext(deployment.url)
        address = reachable_address(container, deployment.internal_urls, deployment.external_urls)
        return nullcontext(f"http://{address}" if address else "")

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        key = DockerKey(namespace, name)
        objects = self._recovered_function(key)
        if objects.container is None and not options.follow:
            return revision_records.failure_log(objects.revisions)

        def serving_container() -> str | None:
            current = inventory.read_function(self.engine, key)
            return current.container.id if current.container else None

        return logs.read_logs(self.engine, serving_container, options)

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        restarts = {}
        for function in inventory.list_functions(self.engine, namespace):
            if (container := function.container) is not None:
                count = int((self.engine.container(container.id) or {}).get("RestartCount") or 0)
                # After a restart the engine does not have the reason any more.
                if count:
                    restarts[function.key.name] = Restarts(count)
        return restarts

    def replica_names(self, namespace: str, name: str) -> list[str]:
        container = self._recovered_function(DockerKey(namespace, name)).container
        return [container.name] if container else []

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        addresses = [url.rpartition(":")[0] for url in deployment.internal_urls]
        statistics = probes.query_statistics(self.engine, addresses)
        return {deployment.processors[0]: statistics} if statistics else {}

    def change_sleep(self, namespace: str, name: str, action: SleepAction) -> None:
        container = self._recovered_function(DockerKey(namespace, name)).container
        if container is None or not container.is_running:
            raise_without_processor(self.deployment(namespace, name))
        probes.change_sleep(self.engine, container, action)

    def recordings(self, namespace: str, name: str, action: RecordingAction) -> list[bytes]:
        container = self._recovered_function(DockerKey(namespace, name)).container
        if container is None or not container.is_running:
            raise_without_processor(self.deployment(namespace, name))
        return [probes.read_recording(self.engine, container, action)]

    def revision_artifact(self, namespace: str, name: str, revision: int) -> Artifact | None:
        objects = self._recovered_function(DockerKey(namespace, name))
        return records.existing_image(self.engine, records.history_of(objects).find(revision))

    def trial(
        self, function: Function, artifact: Artifact, progress: Progress
    ) -> AbstractContextManager[str]:
        return trial.run_trial(self.engine, function, artifact, progress)

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        objects = self._recovered_function(DockerKey(namespace, name))
        return revision_records.to_revisions(objects.revisions, objects.active)

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        objects = self._recovered_function(DockerKey(namespace, name))
        history = records.history_of(objects)
        record = history.latest if revision is None else history.find(revision)
        if record is None:
            return imported_code.find(self.name, objects.key)
        return image_code.extract_code(self.engine, record)

    # Removing

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        """See `Platform.delete`. With `image` the tags of its images are removed, too."""
        key = DockerKey(namespace, name)
        before = inventory.read_function(self.engine, key)
        if not (before.exists or before.leases):
            return False
        with rollout.exclusive_change(self.engine, key, "deleted", wait=False) as objects:
            _check_not_deployed_by_nuclio(objects)
            for container in objects.containers:
                self.engine.stop(container.id)
            for record in objects.revisions:
                # Records go first: a record without a container would be restored.
                self.engine.remove_volume(record.key.record_name(record.number))
            for container in objects.containers:
                self.engine.remove(container.id)
            for record in objects.revisions:
                records.remove_revision(self.engine, record)
                if image:
                    records.untag_image(self.engine, record)
            records.remove_import(self.engine, key)
            if objects.held_lease is not None:
                objects.held_lease.clear_stage()
            remove_lock(*key)
        return objects.exists

    # Leftovers

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - images are shared by all namespaces
        return records.image_use(self.engine)

    def leftovers(self) -> list[Leftover]:
        return recovery.find_leftovers(self.engine)

    def discard(self, leftover: Leftover) -> bool:
        return recovery.discard_leftover(self.engine, leftover)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return records.list_projects(self.engine, namespace)

    def create_project(self, project: Project) -> bool:
        return records.create_project(self.engine, project)

    def update_project(self, project: Project) -> bool:
        return records.update_project(self.engine, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        functions = inventory.list_functions(self.engine, namespace)
        members = {
            objects.key.name: objects
            for objects in functions
            if _project_of_objects(objects) == name
        }
        deleted = members_to_delete(name, list(members), cascade=cascade)
        for member in deleted:
            _check_not_deployed_by_nuclio(members[member])
        for member in deleted:
            self.delete(namespace, member)
        return records.delete_project(self.engine, namespace, name)


def _project_of_objects(objects: FunctionObjects) -> str:
    """Return the project of a function, even if its configuration cannot be read."""
    try:
        return function_state.configuration_of(objects).project
    except ConfigError:
        labels = objects.containers[0].labels if objects.containers else {}
        return labels.get(PROJECT_LABEL, DEFAULT_PROJECT)


def _check_not_deployed_by_nuclio(objects: FunctionObjects) -> None:
    """Raise `PreconditionError` for a function of Nuclio, which only a deploy takes over."""
    if objects.is_deployed_by_nuclio:
        name = objects.key.name
        raise PreconditionError(
            f"{name} was deployed by Nuclio, which has its own records of it",
            hint=f"use `nuctl` for it, or take it over: `fnbuild deploy {name} --path FOLDER`",
        )
