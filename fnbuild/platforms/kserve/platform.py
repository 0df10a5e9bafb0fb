"""The KServe platform: the implementation of the `Platform` protocol."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from fnbuild.builder.image import registry
from fnbuild.errors import UsageError
from fnbuild.function.kserve_settings import kserve_settings
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_OPTIONS,
    Artifact,
    Deployment,
    Finding,
    ImageUse,
    LogOptions,
    LogRecord,
    Plan,
    PlanOptions,
    Progress,
    Restarts,
    Statistics,
    imported_code,
    revision_records,
)
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.errors import no_ready_pod_error
from fnbuild.platforms.kserve import cluster_config, function_state, inventory
from fnbuild.platforms.kserve.identity import (
    HTTP_PORT,
    SERVING_CONTAINER,
    STORAGE_CONTAINER,
    validated_key,
)
from fnbuild.platforms.kserve.inventory import FunctionObjects
from fnbuild.platforms.kserve.records import RECORDS, FunctionLease, FunctionRecord
from fnbuild.platforms.kserve.revision_record import RevisionRecord
from fnbuild.platforms.kubeclient import kinds, logs
from fnbuild.platforms.kubeclient.cluster import if_allowed
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.platforms.kubeclient.recorded_platform import RecordedPlatform, count_restarts
from fnbuild.platforms.kubeclient.service_images import recorded_images
from fnbuild.platforms.processor_status import ADMIN_PORT, parse_metrics
from fnbuild.platforms.revision_records import imported_artifact


class KServePlatform(RecordedPlatform[RevisionRecord]):
    """Functions as InferenceServices."""

    name = function_state.PLATFORM_NAME
    artifact_kind = "image"
    records = RECORDS
    container = SERVING_CONTAINER

    def runs_code(self, function: Function) -> bool:
        return kserve_settings(function).runs_code

    # Deploying

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        from fnbuild.platforms.kserve import planning

        record = RECORDS.read(self.cluster, validated_key(function))
        return planning.plan_deploy(self.cluster, record, function, artifact, options).plan

    def validated_key(self, function: Function) -> FunctionKey:
        return validated_key(function)

    def roll_out(self, lease: FunctionLease, plan: Plan, progress: Progress) -> None:
        from fnbuild.platforms.kserve import rollout

        rollout.apply_plan(self.cluster, lease, plan, progress)

    def roll_out_again(
        self,
        lease: FunctionLease,
        target: RevisionRecord,
        origin: revision_records.RevisionOrigin,
        options: PlanOptions,
        progress: Progress,
    ) -> None:
        from fnbuild.platforms.kserve import rollout

        rollout.rerun_revision(self.cluster, lease, target, origin, options, progress)

    def run_imported(self, record: FunctionRecord, progress: Progress) -> Deployment:
        config = record.imported_config
        function = None if config is None else function_from_dict(config, record.key.name)
        if function is not None and not self.runs_code(function):
            return self.apply(self.plan(function, Artifact("image", "", "")), progress)
        imported = None if function is None else imported_artifact(function)
        if imported is None:
            folder = imported_code.find(self.name, record.key)
            raise revision_records.missing_code_error(record.key.name, config, folder)
        return self.apply(self.plan(*imported), progress)

    def has_objects(self, key: FunctionKey) -> bool:
        return inventory.read_function(self.cluster, key).service is not None

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
        read = partial(partial, function_state.to_deployment, self.cluster)
        return self.list_deployments(((item.record, read(item)) for item in functions), project)

    def deployment(self, namespace: str, name: str) -> Deployment:
        return function_state.to_deployment(self.cluster, self._read_function(namespace, name))

    def _read_function(self, namespace: str, name: str) -> FunctionObjects:
        return inventory.existing_function(self.cluster, FunctionKey(namespace, name))

    def existing_record(self, namespace: str, name: str) -> FunctionRecord:
        return self._read_function(namespace, name).record

    def require_record(self, record: FunctionRecord) -> None:
        inventory.require_managed(FunctionObjects(record))

    def pod_source(self, record: FunctionRecord) -> Callable[[], list[Pod]]:
        objects = self._read_function(*record.key)
        return lambda: inventory.list_pods(self.cluster, objects)

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
            if (restarts := count_restarts(pods)) is not None:
                counted[objects.key.name] = restarts
        return counted

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
        with RECORDS.hold_lease(self.cluster, key, "deleted") as lease:
            rollout.delete_function(self.cluster, lease, objects)
        return True

    def image_use(self, namespace: str) -> ImageUse:  # noqa: ARG002 - all are listed
        all_records = RECORDS.read_all(self.cluster, None)
        revisions = [revision for record in all_records for revision in record.revisions]
        references = recorded_images(self.cluster)
        builds = (registry.parse_pushed_build(item.pinned) for item in revisions)
        repositories = (str(build.repository) for build in builds if build is not None)
        changing = (record.key.name for record in all_records if record.ongoing_change)
        return ImageUse(frozenset(references), frozenset(repositories), frozenset(changing))
