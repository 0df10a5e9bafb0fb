"""The current state of functions, from their Deployments, Services and pods."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.function.sleep_settings import sleep_settings
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Deployment, FunctionState
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod
from fnbuild.platforms.kubeclient.ownership import is_managed
from fnbuild.platforms.kubernetes import endpoints, inventory, labels, leases, pod_status, records
from fnbuild.platforms.kubernetes.diagnosis import queries, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.queries import failure_details
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.manifests import keda
from fnbuild.platforms.kubernetes.records import configuration_of
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord, image_of
from fnbuild.platforms.processor_status import ProcessorStatus
from fnbuild.platforms.settings import gpu_limit
from fnbuild.platforms.sleep_status import SleepStatus

PLATFORM_NAME = "kube"

_WAKES_BY_KEDA = "KEDA starts a pod for the next request through its interceptor"

_MAX_THREADS = 8


@dataclass(frozen=True, slots=True)
class _StateMessage:
    state: FunctionState
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Observed:
    """The observed state of a function; `pods` is None if they were not needed."""

    cluster: Cluster
    hosts: tuple[str, ...] = ()
    pods: list[Pod] | None = None
    status: RolloutStatus | None = None
    statuses: dict[str, ProcessorStatus] = field(default_factory=dict)


def to_deployment(cluster: Cluster, objects: FunctionObjects) -> Deployment:
    """Return a function in the form of the platform protocol, with its pods."""
    if objects.deployment is None:
        return _to_deployment(objects, _Observed(cluster, endpoints.node_hosts(cluster, [objects])))
    pods = inventory.list_pods(cluster, objects.key)
    hosts = endpoints.node_hosts(cluster, [objects], pods)
    newest = rollout_status.newest_pods(objects.deployment, pods)
    statuses = queries.query_statuses(cluster, newest) if is_managed(objects.deployment) else {}
    status = queries.query_rollout_status(cluster, objects.deployment, pods, time.time(), statuses)
    return _to_deployment(objects, _Observed(cluster, hosts, pods, status, statuses))


def to_deployments(cluster: Cluster, functions: list[FunctionObjects]) -> list[Deployment]:
    """Return functions of one namespace, in the same order. An invalid one does not hide others.

    Pods are read only if a function is not fully available, or may sleep.
    """
    unsettled = {
        function.key.name: function.deployment
        for function in functions
        if function.deployment
        and function.deployment.desired_replicas
        and (not function.deployment.is_rolled_out or _may_sleep(function))
    }
    observations = _observe(cluster, unsettled) if unsettled else {}
    pods = [pod for observed in observations.values() for pod in observed.pods or ()]
    hosts = endpoints.node_hosts(cluster, functions, pods)
    unobserved = _Observed(cluster)
    observed = [
        replace(observations.get(function.key.name, unobserved), hosts=hosts)
        for function in functions
    ]
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        return list(pool.map(_to_listed_deployment, functions, observed))


def _observe(cluster: Cluster, deployments: dict[str, KubeDeployment]) -> dict[str, _Observed]:
    """Observe functions that are not fully available; both by name."""
    namespace = next(iter(deployments.values())).namespace
    with ThreadPoolExecutor(3) as pool:
        pods = pool.submit(inventory.list_namespace_pods, cluster, namespace)
        events = pool.submit(queries.list_warning_events, cluster, namespace)
        nodes = pool.submit(queries.list_nodes, cluster)
    by_name: dict[str, list[Pod]] = {name: [] for name in deployments}
    for pod in pods.result():
        by_name.get(pod.labels.get(labels.FUNCTION, ""), []).append(pod)
    managed = [name for name, kube_deployment in deployments.items() if is_managed(kube_deployment)]
    statuses = queries.query_statuses(
        cluster,
        [
            pod
            for name in managed
            for pod in by_name[name]
            if not pod.is_ready or deployments[name].is_rolled_out
        ],
    )

    def observed(name: str, kube_deployment: KubeDeployment) -> _Observed:
        status = rollout_status.rollout_status(
            kube_deployment, by_name[name], events.result(), time.time(), nodes.result(), statuses
        )
        own = {pod.name: statuses[pod.name] for pod in by_name[name] if pod.name in statuses}
        return _Observed(cluster, pods=by_name[name], status=status, statuses=own)

    return {name: observed(name, kube_deployment) for name, kube_deployment in deployments.items()}


def _may_sleep(objects: FunctionObjects) -> bool:
    """Return True if the workers sleep after an idle timeout."""
    revision = objects.applied_revision
    return revision is not None and sleep_settings(revision.function).idle_timeout is not None


def _sleep(statuses: Iterable[ProcessorStatus]) -> SleepStatus | None:
    """Return the sleep of the processor that is not awake, or of any."""
    reports = [status.sleep for status in statuses if status.sleep is not None]
    return next((sleep for sleep in reports if sleep.description), next(iter(reports), None))


def _to_listed_deployment(objects: FunctionObjects, observed: _Observed) -> Deployment:
    try:
        return _to_deployment(objects, observed)
    except UnavailableError:
        raise
    except FnbuildError as error:
        function = placeholder_function(objects.key, objects.project)
        return Deployment(function, PLATFORM_NAME, "error", error.message)


def _to_deployment(objects: FunctionObjects, observed: _Observed) -> Deployment:
    revision = objects.applied_revision
    function = revision.function if revision else configuration_of(objects)
    current = _current_state(objects, function, observed)
    desired = objects.deployment.desired_replicas if objects.deployment else 0
    # Surplus pods are about to terminate.
    available = min(objects.deployment.available_replicas, desired) if objects.deployment else 0
    warnings = [text for status in observed.statuses.values() for text in status.warnings]
    pods = _pods(observed.pods, objects.deployment) if observed.pods else []
    return Deployment(
        function=function,
        platform=PLATFORM_NAME,
        state=current.state,
        message=_join_lines(*_drift(objects, revision), current.message),
        revision=revision.number if revision else 0,
        http_port=endpoints.node_port(objects.service),
        grpc_port=endpoints.grpc_node_port(objects.service),
        internal_urls=endpoints.internal_addresses(objects),
        external_urls=endpoints.external_addresses(objects, observed.hosts),
        replicas=(available, desired),
        image=_image(objects, revision),
        host=keda.proxy_host(objects.key) if objects.is_scaled_to_zero_by_keda else "",
        sleep=_sleep(observed.statuses.values()),
        processors=tuple(pod["name"] for pod in pods if pod["current"] and pod["state"] == "Ready"),
        details=_details(objects, revision, function, observed, pods),
        warnings=tuple(dict.fromkeys(warnings)),
    ).with_ongoing_change(leases.describe_ongoing_change(objects))


def _current_state(
    objects: FunctionObjects, function: Function, observed: _Observed
) -> _StateMessage:
    kube_deployment = objects.deployment
    if kube_deployment is None:
        return _without_deployment(objects)
    if not kube_deployment.desired_replicas:
        if function.spec.disable:
            return _StateMessage("standby")
        note = _WAKES_BY_KEDA if objects.is_scaled_to_zero_by_keda else ""
        return _StateMessage("scaledToZero", note)
    status = observed.status
    if status is None or status.ready:
        notes = ((pod, report.note) for pod, report in observed.statuses.items())
        return _StateMessage("ready", "; ".join(f"{pod}: {note}" for pod, note in notes if note))
    current = _partial_state(kube_deployment, status, observed, readiness_seconds(function))
    if current.state == "unhealthy" and records.never_served(objects):
        return replace(current, state="error")
    return current


def _without_deployment(objects: FunctionObjects) -> _StateMessage:
    if objects.is_leased(time.time()):
        return _StateMessage("building", "its first deploy is under way")
    if objects.imported_config is not None:
        return _StateMessage("imported")
    newest = next(iter(records.all_revisions(objects)), None)
    if newest is None:
        gone = f"`fnbuild delete function {objects.key.name}` removes it"
        if objects.pending_config is not None:
            return _StateMessage(
                "error", f"its first deploy was interrupted; deploy it again, or {gone}"
            )
        return _StateMessage("unhealthy", f"nothing is left of it but its service; {gone}")
    if newest.failed:
        return _StateMessage("error", newest.failure)
    redeploy = f"`fnbuild redeploy {objects.key.name}` creates it again"
    return _StateMessage("unhealthy", f"its Deployment was removed; {redeploy}")


def _partial_state(
    kube_deployment: KubeDeployment, rollout: RolloutStatus, observed: _Observed, patience: float
) -> _StateMessage:
    """Return the state of a function during a rollout, or with unavailable pods.

    `patience` is the time in seconds in which pods may become ready.
    """
    newest = [pod for pod in observed.pods or [] if pod.is_active]
    newest = rollout_status.newest_pods(kube_deployment, newest)
    # A terminating pod stays ready until its end.
    serving = bool(kube_deployment.available_replicas) and any(pod.is_ready for pod in newest)
    if rollout.failure:
        if serving:
            return _StateMessage("ready", _join_lines(*rollout.messages))
        old = (
            "pods of an older revision go on serving" if kube_deployment.available_replicas else ""
        )
        output = ""
        if rollout.container:
            output = failure_details(
                observed.cluster, kube_deployment.namespace, rollout.pod, rollout.container
            )
        return _StateMessage("unhealthy", _join_lines(rollout.failure, rollout.hint, old, output))
    output = "; ".join(rollout.messages)
    progressing = kube_deployment.condition("Progressing")
    if serving and progressing.reason == "NewReplicaSetAvailable":
        return _StateMessage("ready", output)
    over = progressing.status == "False" or not _may_become_ready(newest, patience)
    if over and not kube_deployment.available_replicas:
        return _StateMessage("unhealthy", output)
    return _StateMessage("building", output)


def _may_become_ready(pods: Sequence[Pod], patience: float) -> bool:
    """Return True if a pod may still become ready, or if none has been created yet."""
    created = (pod_status.parse_timestamp(pod.created) for pod in pods)
    return not pods or any(
        timestamp is not None and time.time() - timestamp < patience for timestamp in created
    )


def _drift(objects: FunctionObjects, revision: RevisionRecord | None) -> list[str]:
    """Describe changes by other tools: differences between the function and its revision."""
    if revision is None or objects.deployment is None:
        return []
    redeploy, messages = f"`fnbuild redeploy {objects.key.name}", []
    running = image_of(objects.deployment)
    if running != revision.image_reference:
        origin = f"revision {revision.number}" if revision.number else "its configuration"
        messages.append(
            f"the container runs {running} instead of the image of {origin}: another client has"
            f" changed it; {redeploy} --force-conflicts` restores {revision.image_reference}"
        )
    if objects.service is None:
        messages.append(f"its service was removed; {redeploy}` creates it again")
    return messages


def _join_lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _image(objects: FunctionObjects, revision: RevisionRecord | None) -> Artifact | None:
    if revision is not None:
        return revision.artifact
    if objects.deployment is not None:
        return Artifact("image", image_of(objects.deployment), "")
    return None


def _details(
    objects: FunctionObjects,
    revision: RevisionRecord | None,
    function: Function,
    observed: _Observed,
    pods: list[Raw],
) -> dict[str, Any]:
    cluster = observed.cluster
    details: dict[str, Any] = {"server": cluster.server, "context": cluster.context}
    if revision is not None:
        details |= {"image": revision.image, "pinned": revision.pinned, "digest": revision.digest}
    elif objects.deployment is not None:
        details["image"] = image_of(objects.deployment)
    if objects.service is not None:
        details["service"] = objects.service["spec"].get("type", "ClusterIP")
    if objects.has_unmanaged_objects and objects.deployment is not None and revision is None:
        details["deployed_by"] = objects.deployment.labels.get(labels.MANAGED_BY) or "Nuclio"
    details["gpu"] = gpu_limit(function)
    if objects.hpa is not None:
        details["autoscaling"] = _autoscaling(objects.hpa)
    details["pods"] = pods
    return {key: value for key, value in details.items() if value}


def _autoscaling(hpa: Raw) -> Raw:
    spec, status = hpa["spec"], hpa.get("status") or {}
    return {
        "min": spec.get("minReplicas", 1),
        "max": spec.get("maxReplicas"),
        "current": status.get("currentReplicas", 0),
        "wanted": status.get("desiredReplicas", 0),
    }


def _pods(pods: Sequence[Pod], kube_deployment: KubeDeployment | None) -> list[Raw]:
    newest = rollout_status.newest_pods(kube_deployment, pods) if kube_deployment else []
    newest_names = {pod.name for pod in newest}
    return [
        {
            "name": pod.name,
            "state": pod_status.pod_state(pod),
            "current": pod.name in newest_names,
            "node": pod.node_name,
            "restarts": pod.restarts,
            "started": pod.start_time,
        }
        for pod in pods
    ]
