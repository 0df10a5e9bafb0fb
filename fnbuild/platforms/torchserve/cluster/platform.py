"""TorchServe in a cluster: a Deployment of servers for each function, and its model store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from fnbuild.errors import UsageError
from fnbuild.function.types import Function
from fnbuild.platforms import (
    ALL_RECORDS,
    NO_OPTIONS,
    Artifact,
    Deployment,
    Finding,
    FunctionKey,
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
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.errors import no_ready_pod_error
from fnbuild.platforms.kubeclient.cluster import if_allowed
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.permissions import check_permissions
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.platforms.kubeclient.recorded_platform import RecordedPlatform, count_restarts
from fnbuild.platforms.torchserve.cluster import function_state, servers
from fnbuild.platforms.torchserve.cluster.manifests import CONTAINER, server_ports
from fnbuild.platforms.torchserve.cluster.permissions import REQUIRED_PERMISSIONS
from fnbuild.platforms.torchserve.cluster.records import (
    RECORDS,
    FunctionLease,
    FunctionRecord,
    RevisionRecord,
    described_by,
)
from fnbuild.platforms.torchserve.management import (
    ManagedPlatform,
    ManagementClient,
    parse_statistics,
)
from fnbuild.platforms.torchserve.server_log import with_levels


class ClusterPlatform(RecordedPlatform[RevisionRecord], ManagedPlatform):
    """The platform that runs functions by TorchServe servers in pods."""

    name = function_state.PLATFORM_NAME
    artifact_kind = "folder"
    authentication = "absent"
    records = RECORDS
    container = CONTAINER

    # Deploying

    def plan(
        self, function: Function, artifact: Artifact, options: PlanOptions = NO_OPTIONS
    ) -> Plan:
        from fnbuild.platforms.torchserve.cluster import planning

        record = RECORDS.read(self.cluster, FunctionKey.of(function))
        return planning.plan_deploy(self.cluster, record, function, artifact, options).plan

    def roll_out(self, lease: FunctionLease, plan: Plan, progress: Progress) -> None:
        from fnbuild.platforms.torchserve.cluster import rollout

        rollout.apply_plan(self.cluster, lease, plan, progress)

    def roll_out_again(
        self,
        lease: FunctionLease,
        target: RevisionRecord,
        origin: revision_records.RevisionOrigin,
        options: PlanOptions,
        progress: Progress,
    ) -> None:
        from fnbuild.platforms.torchserve.cluster import rollout

        rollout.rerun_revision(self.cluster, lease, target, origin, options, progress)

    def run_imported(self, record: FunctionRecord, progress: Progress) -> Deployment:  # noqa: ARG002
        folder = imported_code.find(self.name, record.key)
        name = record.key.name
        raise revision_records.missing_code_error(name, record.imported_config, folder)

    def delete(self, namespace: str, name: str, *, image: bool = False) -> bool:
        if image:
            raise UsageError(
                "images in a registry are not removed from here", hint="leave out `--image`"
            )
        from fnbuild.platforms.torchserve.cluster import rollout

        key = FunctionKey(namespace, name)
        if not RECORDS.read(self.cluster, key).exists:
            return False
        with RECORDS.hold_lease(self.cluster, key, "deleted") as lease:
            rollout.delete_function(self.cluster, lease)
        return True

    # Reading

    def require_available(self) -> None:
        assert self.cluster.version

    def examine(
        self,
        namespace: str,
        *,
        areas: Collection[str] = (),
        image: str = "",  # noqa: ARG002 - `--platform kube` checks pulls
        architecture: str = "",  # noqa: ARG002
    ) -> Iterator[Finding]:
        check = partial(check_permissions, self.cluster, namespace, REQUIRED_PERMISSIONS)
        return run_checks([Check("rights", check)], areas)

    def deployments(self, namespace: str, project: str | None = None) -> list[Deployment]:
        records = sorted(RECORDS.read_all(self.cluster, namespace), key=lambda item: item.key)
        read = partial(partial, function_state.to_deployment, self.cluster)
        return self.list_deployments(((record, read(record)) for record in records), project)

    def deployment(self, namespace: str, name: str) -> Deployment:
        record = self.existing_record(namespace, name)
        deployment = function_state.to_deployment(self.cluster, record)
        return function_state.with_servers(self.cluster, record, deployment)

    def pod_source(self, record: FunctionRecord) -> Callable[[], list[Pod]]:
        revision = described_by(record)
        if revision is None:
            return list
        return lambda: servers.list_pods(self.cluster, revision)

    def restarts(self, namespace: str) -> dict[str, Restarts]:
        counted = {}
        for record in RECORDS.read_all(self.cluster, namespace):
            pods = if_allowed(self.pod_source(record), [])
            if (restarts := count_restarts(pods)) is not None:
                counted[record.key.name] = restarts
        return counted

    def logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        return with_levels(super().logs(namespace, name, options))

    def previous_logs(
        self, namespace: str, name: str, options: LogOptions = ALL_RECORDS
    ) -> Iterator[LogRecord]:
        return with_levels(super().previous_logs(namespace, name, options))

    def statistics(self, deployment: Deployment) -> dict[str, Statistics]:
        key = FunctionKey.of(deployment.function)
        revision = described_by(self.existing_record(*key))
        if revision is None:
            return {}
        port, model = server_ports(revision.settings).metrics, revision.models[0]
        workers = Counter(worker.state for worker in deployment.workers)
        statistics = {}
        for pod in deployment.processors:
            query = partial(self.cluster.get_from_pod, key.namespace, pod, port, "/metrics")
            if body := if_allowed(query, None):
                text = body.decode(errors="replace")
                statistics[pod] = parse_statistics(text, model, 0, workers)
        return statistics

    # Requests

    def _serving(self, namespace: str, name: str) -> tuple[RevisionRecord, list[Pod]]:
        revision = described_by(self.existing_record(namespace, name))
        if revision is None:
            raise no_ready_pod_error(name)
        return revision, servers.serving_pods(self.cluster, revision)

    def _newest(self, deployment: Deployment) -> tuple[RevisionRecord, str]:
        key = FunctionKey.of(deployment.function)
        revision, pods = self._serving(*key)
        if not pods:
            raise no_ready_pod_error(key.name)
        return revision, pods[-1].name

    @contextmanager
    def reachable_url(self, deployment: Deployment) -> Iterator[str]:
        """Forward a port to the newest pod, whose token `request_headers` has."""
        if not deployment.replicas[0]:
            yield ""
            return
        revision, _ = self._newest(deployment)
        port = server_ports(revision.settings).inference
        with self.forward_port(deployment, 0, port) as url:
            yield f"{url}/predictions/{revision.models[0]}"

    def forward_port(
        self, deployment: Deployment, local_port: int, port: int
    ) -> AbstractContextManager[str]:
        revision, pod = self._newest(deployment)
        return forward_port(self.cluster, revision.namespace, pod, port, local_port=local_port)

    def request_headers(self, deployment: Deployment) -> dict[str, str]:
        revision, pod = self._newest(deployment)
        token = servers.inference_key(self.cluster, revision, pod)
        return {"Authorization": f"Bearer {token}"} if token else {}

    @contextmanager
    def management(
        self, namespace: str, name: str, participle: str = ""
    ) -> Iterator[list[ManagementClient]]:
        key = FunctionKey(namespace, name)
        self.existing_record(namespace, name)
        lease = RECORDS.hold_lease(self.cluster, key, participle) if participle else nullcontext()
        with lease:
            revision, pods = self._serving(namespace, name)
            yield [servers.management_client(self.cluster, revision, pod.name) for pod in pods]
