"""The KServe platform: the implementation of the `Platform` protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from fnbuild.builder.image import registry
from fnbuild.errors import UsageError
from fnbuild.function.kserve_settings import kserve_settings
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
    Reservation,
    Restarts,
    Revision,
    Statistics,
    imported_code,
    revision_records,
)
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.errors import function_exists_error, no_ready_pod_error
from fnbuild.platforms.kserve import cluster_config, function_state, inventory, records
from fnbuild.platforms.kserve.identity import (
    HTTP_PORT,
    SERVING_CONTAINER,
    STORAGE_CONTAINER,
    validated_key,
)
from fnbuild.platforms.kserve.inventory import FunctionObjects
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kubeclient import connection, kinds, logs, project_records
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.platforms.kubeclient.service_images import recorded_images
from fnbuild.platforms.processor_status import ADMIN_PORT, parse_metrics
from fnbuild.platforms.projects import members_to_delete
from fnbuild.platforms.revision_records import imported_artifact, stored_config

_MAX_THREADS = 8


class KServePlatform(Platform):
    """Functions as InferenceServices."""

    name = function_state.PLATFORM_NAME
    artifact_kind = "image"
    needs_kubernetes_names = True

    def __init__(self, options: ConnectOptions = NO_CONNECT_OPTIONS):
        self._connect_options = options

    def runs_code(self, function: Function) -> bool:
        return kserve_settings(function).runs_code

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
        from fnbuild.platforms.kserve import planning

        record = records.read_record(self.cluster, validated_key(function))
        return planning.plan_deploy(self.cluster, record, function, artifact, options).plan

    @contextmanager
    def reserve(
        self,
        function: Function,
        progress: Progress,  # noqa: ARG002
    ) -> Iterator[Reservation]:
        from fnbuild.platforms.kserve import rollout

        key = validated_key(function)
        with records.hold_lease(self.cluster, key, "deployed", function) as lease:

            def apply(plan: Plan, progress: Progress) -> Deployment:
                rollout.apply_plan(self.cluster, lease, plan, progress)
                deployment = self._deployment_during(lease)
                return replace(deployment, warnings=(*plan.warnings, *deployment.warnings))

            yield Reservation(apply)

    def _deployment_during(self, lease: records.FunctionLease) -> Deployment:
        """Return the function during a change by this process."""
        objects = inventory.read_function(self.cluster, lease.key)
        return function_state.to_deployment(self.cluster, objects)

    def rollback(
        self,
        namespace: str,
        name: str,
        revision: int | None,
        progress: Progress,
        *,
        force_conflicts: bool = False,
    ) -> Deployment:
        objects = self._read_managed(namespace, name)
        target, origin = objects.record.history.choose_for_rollback(revision, progress)
        return self._rerun("rolled back", target, origin, progress, force_conflicts)

    def redeploy(
        self, namespace: str, name: str, progress: Progress, *, force_conflicts: bool = False
    ) -> Deployment:
        objects = self._read_managed(namespace, name)
        selected = objects.record.history.choose_for_redeploy()
        if selected is None:
            return self._run_imported(objects, progress)
        target, origin = selected
        return self._rerun("redeployed", target, origin, progress, force_conflicts)

    def _rerun(
        self,
        participle: str,
        target: RevisionRecord,
        origin: revision_records.RevisionOrigin,
        progress: Progress,
        force_conflicts: bool,
    ) -> Deployment:
        from fnbuild.platforms.kserve import rollout

        options = PlanOptions(force_conflicts=force_conflicts)
        with records.hold_lease(self.cluster, target.key, participle) as lease:
            rollout.rerun_revision(self.cluster, lease, target, origin, options, progress)
            return self._deployment_during(lease)

    def _run_imported(self, objects: FunctionObjects, progress: Progress) -> Deployment:
        config = objects.record.imported_config
        function = None if config is None else function_from_dict(config, objects.key.name)
        if function is not None and not self.runs_code(function):
            return self.apply(self.plan(function, Artifact("image", "", "")), progress)
        imported = None if function is None else imported_artifact(function)
        if imported is None:
            folder = imported_code.find(self.name, objects.key)
            raise revision_records.missing_code_error(objects.key.name, config, folder)
        return self.apply(self.plan(*imported), progress)

    def store_imported(self, function: Function) -> Deployment:
        from fnbuild.platforms.kserve.planning import secret_store

        key = validated_key(function)
        with records.hold_lease(self.cluster, key, "imported", function) as lease:
            if lease.revisions or inventory.read_function(self.cluster, key).service is not None:
                raise function_exists_error(key)
            store = secret_store(self.cluster, key)
            lease.imported_config = store.with_references(stored_config(function))
            store.save({})
        return self.deployment(*key)

    def function_with_secrets(self, deployment: Deployment) -> Function:
        from fnbuild.platforms.kserve.planning import secret_store

        store = secret_store(self.cluster, FunctionKey.of(deployment.function))
        return function_from_dict(store.with_values(to_dict(deployment.function)), deployment.name)

    # Reading

    def require_available(self) -> None:
        cluster_config.require_installed(self.cluster)

    def examine(
        self,
        namespace: str,
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - `--platform kube` checks pulls
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        return run_checks(
            (
                Check("kserve", partial(self._check_kserve, namespace)),
                Check("rights", partial(self._check_permissions, namespace)),
            ),
            areas,
        )

    def _check_permissions(self, namespace: str) -> Iterator[Finding]:
        from fnbuild.platforms.kserve.permissions import REQUIRED_PERMISSIONS
        from fnbuild.platforms.kubeclient.permissions import check_permissions

        return check_permissions(self.cluster, namespace, REQUIRED_PERMISSIONS)

    def _check_kserve(self, namespace: str) -> Iterator[Finding]:
        self.require_available()
        config = cluster_config.read_config(self.cluster)
        state = f"KServe is installed, {config.default_mode} mode by default"
        if config.is_read:
            yield Finding("kserve", "ok", state)
        else:
            remedy = f"{cluster_config.NAMESPACE_VARIABLE} names the namespace of KServe"
            yield Finding("kserve", "warning", f"{state}: its configuration cannot be read", remedy)
        runtimes = self.cluster.list(kinds.SERVING_RUNTIME, namespace)
        cluster_wide = if_allowed(
            lambda: self.cluster.list(kinds.CLUSTER_SERVING_RUNTIME, None), None
        )
        runtimes += cluster_wide or []
        names = ", ".join(str(runtime["metadata"]["name"]) for runtime in runtimes) or "none"
        scope = " of the namespace" if cluster_wide is None else ""
        yield Finding("kserve", "ok", f"serving runtimes{scope}: {names}")

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        functions = inventory.list_functions(self.cluster, namespace)
        listed = partial(function_state.to_listed_deployment, self.cluster)
        with ThreadPoolExecutor(_MAX_THREADS) as pool:
            deployments = list(pool.map(listed, functions))
        return [each for each in deployments if project in (None, each.function.project)]

    def deployment(self, namespace: str, name: str) -> Deployment:
        return function_state.to_deployment(self.cluster, self._read_function(namespace, name))

    def _read_function(self, namespace: str, name: str) -> FunctionObjects:
        return inventory.existing_function(self.cluster, FunctionKey(namespace, name))

    def _read_managed(self, namespace: str, name: str) -> FunctionObjects:
        objects = self._read_function(namespace, name)
        inventory.require_managed(objects)
        return objects

    def reachable_url(self, deployment: Deployment) -> AbstractContextManager[str]:
        """Forward a port: the service's URL needs a gateway, which `--gateway` names."""
        if not deployment.replicas[0]:
            return nullcontext("")
        return self.forward_port(deployment, 0, HTTP_PORT)

    def forward_port(
        self, deployment: Deployment, local_port: int, port: int
    ) -> AbstractContextManager[str]:
        key = FunctionKey.of(deployment.function)
        objects = self._read_function(*key)
        serving = [
            pod
            for pod in inventory.list_pods(self.cluster, objects)
            if pod.is_ready and not pod.is_terminating
        ]
        if not serving:
            raise no_ready_pod_error(key.name)
        # Requests of a transformer go through it to its predictor.
        transformers = [pod for pod in serving if pod.labels.get("component") == "transformer"]
        newest = (transformers or serving)[-1]
        return forward_port(self.cluster, key.namespace, newest.name, port, local_port=local_port)

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        objects = self._read_function(namespace, name)
        pods = partial(self._pod_names, objects)
        if not options.follow and not pods():
            return revision_records.failure_log(objects.record.revisions)
        return logs.read_logs(self.cluster, namespace, pods, options, SERVING_CONTAINER)

    def previous_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        pods = self._pod_names(self._read_function(namespace, name))
        return logs.read_previous_logs(self.cluster, namespace, pods, options, SERVING_CONTAINER)

    def init_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        objects = self._read_function(namespace, name)
        pods = [
            pod.name
            for pod in inventory.list_pods(self.cluster, objects)
            if any(container.name == STORAGE_CONTAINER for container in pod.init_containers)
        ]
        if not pods:
            raise UsageError(
                f"no pod of {name} has a container {STORAGE_CONTAINER}",
                hint="only models that are downloaded have one; a claim is mounted directly",
            )
        return logs.read_logs(self.cluster, namespace, lambda: pods, options, STORAGE_CONTAINER)

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        counted = {}
        for objects in inventory.list_functions(self.cluster, namespace):
            pods = if_allowed(partial(inventory.list_pods, self.cluster, objects), [])
            if count := sum(pod.restarts for pod in pods):
                ends = [
                    status.last_termination for pod in pods for status in pod.container_statuses
                ]
                last = max(ends, key=lambda end: end.finished)
                counted[objects.key.name] = Restarts(count, last.reason, last.finished)
        return counted

    def replica_names(self, namespace: str, name: str) -> list[str]:
        return self._pod_names(self._read_function(namespace, name))

    def _pod_names(self, objects: FunctionObjects) -> list[str]:
        return [pod.name for pod in inventory.list_pods(self.cluster, objects)]

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        if deployment.image is None or not deployment.image.digest:
            return {}  # another server, whose metrics are its own
        namespace = deployment.function.metadata.namespace
        statistics = {}
        for pod in deployment.processors:
            query = partial(self.cluster.get_from_pod, namespace, pod, ADMIN_PORT, "/metrics")
            body = if_allowed(query, None)
            parsed = parse_metrics(body.decode(errors="replace")) if body else None
            if parsed is not None:
                statistics[pod] = parsed
        return statistics

    def revisions(self, namespace: str, name: str) -> list[Revision]:
        objects = self._read_function(namespace, name)
        record = objects.record
        active = record.applied if record.applied and not record.applied.failed else record.serving
        return revision_records.to_revisions(record.revisions, active)

    def code_folder(self, namespace: str, name: str, revision: int | None = None) -> Path | None:
        """Return None for a deployed function: its code is in the image."""
        objects = self._read_function(namespace, name)
        if revision is not None:
            objects.record.history.find(revision)
        elif not objects.record.revisions:
            return imported_code.find(self.name, objects.key)
        return None

    # Deleting

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        if image:
            raise UsageError(
                "images in a registry are not removed from here", hint="leave out `--image`"
            )
        from fnbuild.platforms.kserve import rollout

        key = FunctionKey(namespace, name)
        objects = inventory.read_function(self.cluster, key)
        if not objects.exists:
            return False
        inventory.require_managed(objects)
        with records.hold_lease(self.cluster, key, "deleted") as lease:
            rollout.delete_function(self.cluster, lease, objects)
        return True

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - all are listed
        all_records = records.list_records(self.cluster, None)
        revisions = [revision for record in all_records for revision in record.revisions]
        references = recorded_images(self.cluster)
        builds = (registry.parse_pushed_build(item.pinned) for item in revisions)
        repositories = (str(build.repository) for build in builds if build is not None)
        changing = (record.key.name for record in all_records if record.ongoing_change)
        return ImageUse(frozenset(references), frozenset(repositories), frozenset(changing))

    # Projects

    def projects(self, namespace: str) -> list[Project]:
        return project_records.list_projects(self.cluster, namespace)

    def create_project(self, project: Project) -> bool:
        return project_records.create_project(self.cluster, project)

    def update_project(self, project: Project) -> bool:
        return project_records.update_project(self.cluster, project)

    def delete_project(self, namespace: str, name: str, *, cascade: bool) -> bool:
        members = [
            objects
            for objects in inventory.list_functions(self.cluster, namespace)
            if objects.is_managed and objects.record.project == name
        ]
        for member in members_to_delete(
            name, [objects.key.name for objects in members], cascade=cascade
        ):
            self.delete(namespace, member)
        return project_records.delete_project(self.cluster, namespace, name)
