"""The process platform: `Platform`, implemented with the store and the supervisor."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from fnbuild import trees
from fnbuild.builder.processor_settings import sleep_seconds
from fnbuild.datadir import function_dir
from fnbuild.errors import (
    NotReadyError,
)
from fnbuild.function.types import Function
from fnbuild.platforms import (
    Artifact,
    Deployment,
    Finding,
    FunctionKey,
    Leftover,
    Plan,
    PlanOptions,
    Progress,
    RecordingAction,
    Reservation,
    SleepAction,
    Statistics,
)
from fnbuild.platforms.process import (
    deploys,
    doctor,
    foreground_records,
    function_state,
    layout,
    records,
    revisions,
    supervisor_client,
)
from fnbuild.platforms.process.isolation import isolated_users
from fnbuild.platforms.process.layout import control_socket, launched_processors, recording_dir
from fnbuild.platforms.process.processor_client import (
    ProcessorUnreachableError,
    listening_pid,
    post,
    request,
)
from fnbuild.platforms.processor_status import (
    SleepAnswer,
    parse_metrics,
    raise_without_processor,
)
from fnbuild.platforms.revision_records import RevisionOrigin
from fnbuild.platforms.stored_platform import StoredPlatform, should_run
from fnbuild.runtime.recording import files as recording_files
from fnbuild.store import FunctionRow, RevisionRow, Store


@dataclass(frozen=True, slots=True)
class StartResult:
    """The result of `up`: the number of functions that should run, and those that do not."""

    functions: int
    failed: tuple[str, ...] = ()


class ProcessPlatform(StoredPlatform):
    """The platform that runs functions as supervised processes on this machine."""

    name = function_state.PLATFORM_NAME
    start_command = "fnbuild up"
    has_gpu_groups = True
    records_requests = True
    runs_trials = True

    def may_be_probed(self) -> bool:
        return "KUBERNETES_SERVICE_HOST" not in os.environ  # a pod is no machine for processes

    # Records

    def open_store(self) -> Store:
        return Store.open()

    def require_function(self, store: Store, key: FunctionKey) -> FunctionRow:
        return records.require_function(store, key)

    # Deploys

    def plan_in(
        self, store: Store, function: Function, artifact: Artifact, options: PlanOptions
    ) -> Plan:
        return deploys.plan(store, function, artifact, options)

    def deploy_in(
        self,
        store: Store,
        plan: Plan,
        progress: Progress,
        origin: RevisionOrigin | None = None,
    ) -> None:
        deploys.deploy(FunctionKey.of(plan.function), plan, store, progress, origin)

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        with self.locked_store(FunctionKey.of(function), "deployed") as store:
            # These fail before the build if the deploy cannot succeed.
            isolated_users()
            supervisor_client.running_supervisor()
            yield Reservation(partial(self.apply_in, store))

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
        with Store.open() as store:
            names = {row.name for row in store.functions(namespace)}
        running = foreground_records.deployments(namespace, self.name, project)
        combined = [
            *super().deployments(namespace, project),
            *(deployment for deployment in running if deployment.name not in names),
        ]
        return sorted(combined, key=lambda deployment: deployment.name)

    def to_deployment(self, row: FunctionRow, revision: RevisionRow | None) -> Deployment:
        return function_state.to_deployment(row, revision)

    def deployment(self, namespace: str, name: str) -> Deployment:
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            recorded = store.function(*key) is not None
        if not recorded and (record := foreground_records.find(key)) is not None:
            return foreground_records.to_deployment(record, self.name)
        return super().deployment(namespace, name)

    def change_counter(self) -> int:
        return super().change_counter() + foreground_records.change_counter()

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        metadata, number = deployment.function.metadata, deployment.revision
        control = control_socket(FunctionKey(metadata.namespace, metadata.name), number)
        try:
            counted = parse_metrics(request(control, "/metrics").decode())
        except (ProcessorUnreachableError, UnicodeDecodeError):
            return {}
        return {f"{metadata.name} {number}": counted} if counted else {}

    def change_sleep(self, namespace: str, name: str, action: SleepAction) -> None:
        deployment = self.deployment(namespace, name)
        control = control_socket(FunctionKey(namespace, name), deployment.revision)
        limit = sleep_seconds(deployment.function, action)
        try:
            body = post(control, f"/{action}", limit)
        except ProcessorUnreachableError:
            raise_without_processor(deployment)
        SleepAnswer.check(body, name, action)

    def recordings(self, namespace: str, name: str, action: RecordingAction) -> list[bytes]:
        self.deployment(namespace, name)
        output = io.BytesIO()
        recording_files.run(str(recording_dir(FunctionKey(namespace, name))), action, output)
        return [output.getvalue()]

    def trial(
        self, function: Function, artifact: Artifact, progress: Progress
    ) -> AbstractContextManager[str]:
        from fnbuild.platforms.process.trial import run_trial

        return run_trial(function, artifact, progress)

    # Deletion

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:  # noqa: ARG002 - there are none here
        key = FunctionKey(namespace, name)
        with Store.open() as store:
            recorded = store.function(*key) is not None
        if not recorded:
            foreground_records.check_not_foreground(key)
            if not function_dir(*key).is_dir():
                return False
        with self.locked_store(key, "deleted") as store:
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
            if not should_run(row):
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
