"""The current state of functions in a cluster, from their pods and servers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from fnbuild.errors import FnbuildError
from fnbuild.function.reader import function_from_dict
from fnbuild.platforms import Deployment, FunctionState
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import KubeObject, Pod, pod_objects
from fnbuild.platforms.kubeclient.pod_failures import pod_failure
from fnbuild.platforms.torchserve.cluster import servers
from fnbuild.platforms.torchserve.cluster.manifests import (
    object_name,
    server_ports,
    service_name,
    store_location,
)
from fnbuild.platforms.torchserve.cluster.records import (
    FunctionRecord,
    RevisionRecord,
    described_by,
)
from fnbuild.platforms.torchserve.management import ModelVersion, worker_statuses

PLATFORM_NAME = "torchserve"
_MAX_THREADS = 8


def to_deployment(cluster: Cluster, record: FunctionRecord) -> Deployment:
    """Return a function in the form of the platform protocol, without asking its servers."""
    revision = described_by(record)
    if revision is None:
        return _without_revision(record).with_ongoing_change(record.ongoing_change)
    pods: list[Pod] = if_allowed(lambda: servers.list_pods(cluster, revision), [])
    active = [pod for pod in pods if pod.is_active]
    state, message = _current_state(cluster, record, revision, active)
    live = cluster.get(kinds.SERVICE, record.key.namespace, service_name(revision))
    service = KubeObject(live or {})
    ports = [port for port in service.spec.items_of("ports") if port.text("name") == "preds"]
    path = f"/predictions/{revision.models[0]}"
    host = f"{service_name(revision)}.{revision.namespace}.svc.cluster.local"
    inference = server_ports(revision.settings).inference
    balancers = [f"{address}:{inference}{path}" for address in _balancer_hosts(service)]
    return Deployment(
        function=revision.function,
        platform=PLATFORM_NAME,
        state=state,
        message=message,
        revision=revision.number,
        http_port=ports[0].number("nodePort") if ports else 0,
        internal_urls=(f"{host}:{inference}{path}",) if live is not None else (),
        external_urls=tuple(balancers),
        replicas=(sum(pod.is_ready for pod in active), len(active)),
        processors=tuple(pod.name for pod in active if pod.is_ready),
        details=_details(cluster, revision, active, service),
    ).with_ongoing_change(record.ongoing_change)


def _without_revision(record: FunctionRecord) -> Deployment:
    if record.imported_config is not None:
        function = function_from_dict(record.imported_config, record.key.name)
        return Deployment(function, PLATFORM_NAME, "imported")
    function = placeholder_function(record.key, record.project)
    return Deployment(function, PLATFORM_NAME, "building", "its first deploy is under way")


def _balancer_hosts(service: KubeObject) -> Iterator[str]:
    for entry in service.status.section("loadBalancer").items_of("ingress"):
        if host := entry.text("ip") or entry.text("hostname"):
            yield host


def _details(
    cluster: Cluster, revision: RevisionRecord, pods: list[Pod], service: KubeObject
) -> dict[str, Any]:
    location = store_location(revision)
    pending = service.spec.text("type") == "LoadBalancer" and not list(_balancer_hosts(service))
    details = {
        "server": cluster.server,
        "context": cluster.context,
        "archives": revision.archives,
        "store": f"pvc://{location.claim}/{location.path}".rstrip("/"),
        "externalIP": "pending" if pending else "",
        "pods": pod_objects(pods),
    }
    return {key: value for key, value in details.items() if value}


def _current_state(
    cluster: Cluster, record: FunctionRecord, revision: RevisionRecord, pods: list[Pod]
) -> tuple[FunctionState, str]:
    """Return the state of a function and its reason."""
    if record.serving is None:
        return "error", revision.failure
    name = object_name(revision)
    live = cluster.get(kinds.DEPLOYMENT, revision.namespace, name)
    if live is None:
        redeploy = f"`fnbuild redeploy {revision.name}` creates it again"
        return "unhealthy", f"its Deployment was removed; {redeploy}"
    if revision.function.spec.disable:
        return "standby", ""
    if any(pod.is_ready for pod in pods):
        return "ready", ""
    if (failure := pod_failure(pods)) is not None:
        return "unhealthy", f"{failure.text}; {failure.hint}".rstrip("; ")
    return "unhealthy", "no replica has the model ready"


def with_servers(cluster: Cluster, record: FunctionRecord, deployment: Deployment) -> Deployment:
    """Return the function with its workers, and with the differences of its replicas."""
    revision = described_by(record)
    if revision is None or not deployment.processors:
        return deployment
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        listed = pool.map(lambda pod: _models(cluster, revision, pod), deployment.processors)
        by_pod = dict(zip(deployment.processors, listed, strict=True))
    readable = {pod: models for pod, models in by_pod.items() if models is not None}
    versions = [version for models in readable.values() for version in models]
    workers = worker_statuses(worker for version in versions for worker in version.workers)
    descriptions = {pod: _describe(models) for pod, models in readable.items()}
    deployment = replace(deployment, workers=workers)
    if len(set(descriptions.values())) > 1 and deployment.state == "ready":
        text = "; ".join(f"{pod} has {models}" for pod, models in descriptions.items())
        redeploy = f"`fnbuild redeploy {deployment.name}` makes them equal"
        message = f"its replicas differ: {text}; {redeploy}"
        return replace(deployment, state="unhealthy", message=message)
    return deployment


def _models(cluster: Cluster, revision: RevisionRecord, pod: str) -> list[ModelVersion] | None:
    """Return the models of a pod; None if they are unknown."""
    try:
        return servers.management_client(cluster, revision, pod).models()
    except FnbuildError:
        return None


def _describe(models: list[ModelVersion]) -> str:
    return (
        ", ".join(
            f"{model.model_name} {model.model_version} with {model.min_workers}"
            f" worker{'' if model.min_workers == 1 else 's'}"
            for model in models
        )
        or "no models"
    )
