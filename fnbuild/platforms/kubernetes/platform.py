"""The Kubernetes platform: the implementation of the `Platform` protocol.

What only deploys, deletes and checks need is imported on use, so that other commands start sooner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from pathlib import Path

from fnbuild.errors import UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_CONNECT_OPTIONS,
    NO_OPTIONS,
    Artifact,
    ConnectOptions,
    Deployment,
    Finding,
    ImageUse,
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
    imported_code,
    revision_records,
)
from fnbuild.platforms.errors import function_exists_error
from fnbuild.platforms.kubeclient import connection, logs, project_records
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from fnbuild.platforms.kubernetes import endpoints, function_state, inventory, leases, records
from fnbuild.platforms.kubernetes.diagnosis import containers, queries
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey, validated_key
from fnbuild.platforms.kubernetes.revision_record import recorded_config
from fnbuild.platforms.processor_status import raise_without_processor
from fnbuild.platforms.projects import members_to_delete
from fnbuild.platforms.revision_records import imported_artifact, timestamp


class KubernetesPlatform(Platform):
    """Functions as Deployments."""

    name = function_state.PLATFORM_NAME
    records_requests = True
    artifact_kind = "image"
    can_scale_to_zero = True
    runs_trials = True
    needs_kubernetes_names = True
    auto_reason = "a cluster is configured and answers"

    def __init__(self, options: ConnectOptions = NO_CONNECT_OPTIONS):
        self._connect_options = options

    def may_be_probed(self) -> bool:
        return self.is_configured()

    def is_configured(self) -> bool:
        return connection.is_configured(self._connect_options)

    def default_namespace(self) -> str:
        return connection.default_namespace(self._connect_options)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster; the connection is made on first use."""
        return connection.connect(self._connect_options)

    # Deploying

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        from fnbuild.platforms.kubernetes.rollout import planning

        objects = inventory.read_function(self.cluster, validated_key(function))
        rollout_plan = planning.plan_rollout(
            self.cluster, objects, function, artifact, options, preview=True
        )
        return rollout_plan.plan

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        from fnbuild.platforms.kubernetes import deploys

        key = validated_key(function)
        with leases.hold_lease(self.cluster, key, "deployed", function) as lease:
            yield Reservation(partial(deploys.apply_plan, self.cluster, lease))

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,
    ) -> Deployment:
        from fnbuild.platforms.kubernetes import deploys
        from fnbuild.platforms.kubernetes.rollout.planning import Rerun

        objects = self._read_managed(KubernetesKey(namespace, name))
        target, origin = records.history_of(objects).choose_for_rollback(revision, progress)
        rerun = Rerun("rolled back", origin, target.stamp, target.overlap)
        options = PlanOptions(force_conflicts=force_conflicts)
        return deploys.rerun_revision(self.cluster, target, rerun, options, progress)

    def redeploy(
        self, namespace: str, name: str, progress: Progress, *, force_conflicts: bool = False
    ) -> Deployment:
        from fnbuild.platforms.kubernetes import deploys
        from fnbuild.platforms.kubernetes.rollout.planning import Rerun

        objects = self._read_managed(KubernetesKey(namespace, name))
        selected = records.history_of(objects).choose_for_redeploy()
        options = PlanOptions(force_conflicts=force_conflicts)
        if selected is None:
            return self._run_imported(objects, options, progress)
        target, origin = selected
        rerun = Rerun("redeployed", origin, timestamp(), target.overlap)
        return deploys.rerun_revision(self.cluster, target, rerun, options, progress)

    def _run_imported(
        self, objects: FunctionObjects, options: PlanOptions, progress: Progress
    ) -> Deployment:
        imported = (
            None
            if objects.imported_config is None
            else imported_artifact(records.configuration_of(objects))
        )
        if imported is None:
            raise revision_records.missing_code_error(
                objects.key.name,
                objects.imported_config,
                imported_code.find(self.name, objects.key),
            )
        return self.apply(self.plan(*imported, options), progress)

    def store_imported(self, function: Function) -> Deployment:
        key = validated_key(function)
        with leases.hold_lease(self.cluster, key, "imported") as lease:
            if lease.objects.deployment is not None or lease.revisions:
                raise function_exists_error(key)
            store = SecretStore(self.cluster, key)
            config = store.with_references(recorded_config(function))
            store.save(function.metadata.labels)
            lease.record_import(config)
        return self._read_deployment(key)

    def function_with_secrets(self, deployment: Deployment) -> Function:
        store = SecretStore(self.cluster, KubernetesKey.of(deployment.function))
        return function_from_dict(store.with_values(to_dict(deployment.function)), deployment.name)

    # Reading

    def require_available(self) -> None:
        _ = self.cluster.version

    def examine(
        self,
        namespace: str,
        *,
        areas: Collection[str] = (),
        image: str = "",
        architecture: str = "",
    ) -> Iterator[Finding]:
        from fnbuild.platforms.kubernetes.doctor import checks

        return checks.examine(lambda: self.cluster, namespace, areas, image, architecture)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        functions = inventory.list_functions(self.cluster, namespace)
        if not functions:
            inventory.require_namespace(self.cluster, namespace)
        selected = [function for function in functions if project in (None, function.project)]
        return function_state.to_deployments(self.cluster, selected)

    def deployment(self, namespace: str, name: str) -> Deployment:
        return self._read_deployment(KubernetesKey(namespace, name))

    def _read_deployment(self, key: KubernetesKey) -> Deployment:
        return function_state.to_deployment(self.cluster, self._read_function(key))

    def _read_managed(self, key: KubernetesKey) -> FunctionObjects:
        """Return an existing function. Raises `ConflictError` if another tool manages it."""
        objects = self._read_function(key)
        leases.require_managed(objects)
        return objects

    def _read_function(self, key: KubernetesKey) -> FunctionObjects:
        return inventory.existing_function(self.cluster, key)

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        return endpoints.reach_function(self.cluster, deployment)

    def forward_port(
        self, deployment: Deployment, local_port: int, port: int
    ) -> AbstractContextManager[str]:
        return endpoints.forward_to_function(self.cluster, deployment, local_port, port)

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        key = KubernetesKey(namespace, name)
        objects = self._read_function(key)
        pods = partial(self._pod_names, key)
        if not options.follow and not pods():
            return revision_records.failure_log(records.all_revisions(objects))
        return logs.read_logs(self.cluster, namespace, pods, options)

    def previous_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        key = KubernetesKey(namespace, name)
        self._read_function(key)
        return logs.read_previous_logs(self.cluster, namespace, self._pod_names(key), options)

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        # Restarts are additional information.
        pods = if_allowed(lambda: inventory.list_namespace_pods(self.cluster, namespace), ())
        return containers.restarts_by_function(pods)

    def replica_names(self, namespace: str, name: str) -> list[str]:
        key = KubernetesKey(namespace, name)
        self._read_function(key)
        return self._pod_names(key)

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        key = KubernetesKey.of(deployment.function)
        return queries.query_statistics(self.cluster, key.namespace, self._pod_names(key))

    def change_sleep(self, namespace: str, name: str, action: SleepAction) -> None:
        key = KubernetesKey(namespace, name)
        function = records.configuration_of(self._read_managed(key))
        pods = [pod for pod in inventory.list_pods(self.cluster, key) if pod.is_ready]
        if not pods:
            raise_without_processor(self.deployment(namespace, name))
        for pod in pods:
            queries.change_sleep(self.cluster, pod, function, action)

    def recordings(self, namespace: str, name: str, action: RecordingAction) -> list[bytes]:
        key = KubernetesKey(namespace, name)
        self._read_managed(key)
        pods = [pod for pod in inventory.list_pods(self.cluster, key) if pod.is_ready]
        if not pods:
            raise_without_processor(self.deployment(namespace, name))
        return [queries.read_recording(self.cluster, pod, action) for pod in pods]

    def _pod_names(self, key: KubernetesKey) -> list[str]:
        return [pod.name for pod in inventory.list_pods(self.cluster, key)]

    def revision_artifact(self, namespace: str, name: str, revision: int) -> Artifact:
        objects = self._read_function(KubernetesKey(namespace, name))
        return records.history_of(objects).find(revision).artifact

    def trial(
        self, function: Function, artifact: Artifact, progress: Progress
    ) -> AbstractContextManager[str]:
        from fnbuild.platforms.kubernetes.rollout import trial

        return trial.run_trial(self.cluster, function, artifact, progress)

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        return records.to_revisions(self._read_function(KubernetesKey(namespace, name)))

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        """Return None for a deployed function: its code is in the image, which is in a registry."""
        objects = self._read_function(KubernetesKey(namespace, name))
        if revision is not None:
            records.history_of(objects).find(revision)
        elif objects.deployment is None:
            return imported_code.find(self.name, objects.key)
        return None

    # Deleting

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        if image:
            raise UsageError(
                "images in a registry are not removed from here",
                hint="leave out `--image`; `fnbuild prune --platform kube -r REGISTRY` removes what"
                " nothing needs",
            )
        key = KubernetesKey(namespace, name)
        if not inventory.read_function(self.cluster, key).exists:
            return False
        from fnbuild.platforms.kubernetes.rollout import execution

        with leases.hold_lease(self.cluster, key, "deleted") as lease:
            execution.delete_function(self.cluster, lease)
        return True

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - all are listed
        from fnbuild.platforms.kubernetes import images

        return images.image_use(self.cluster)

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return project_records.list_projects(self.cluster, namespace)

    def create_project(self, project: Project) -> bool:
        return project_records.create_project(self.cluster, project)

    def update_project(self, project: Project) -> bool:
        return project_records.update_project(self.cluster, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        members = {
            objects.key.name: objects
            for objects in inventory.list_functions(self.cluster, namespace)
            if objects.project == name
        }
        doomed = members_to_delete(name, list(members), cascade=cascade)
        for member in doomed:
            leases.require_managed(members[member])
        for member in doomed:
            self.delete(namespace, member)
        return project_records.delete_project(self.cluster, namespace, name)
