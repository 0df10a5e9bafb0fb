"""Queries about the pods of a function: their events, processors and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import msgspec

from fnbuild.builder.processor_settings import sleep_seconds
from fnbuild.errors import ForbiddenError
from fnbuild.function.types import Function
from fnbuild.names import PROCESSOR_PATH
from fnbuild.platforms import RecordingAction, SleepAction, Statistics
from fnbuild.platforms.kubeclient import commands, kinds, logs
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import KubeDeployment, KubeEvent, Node, Pod
from fnbuild.platforms.kubernetes import pod_status
from fnbuild.platforms.kubernetes.diagnosis import kubelet, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.containers import Observations
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.pod_status import PodFinding
from fnbuild.platforms.processor_status import (
    ADMIN_PORT,
    ProcessorStatus,
    SleepAnswer,
    decode_status,
    parse_metrics,
)

_MAX_THREADS = 8
_RECORDING_SECONDS = 600.0

A = TypeVar("A")
T = TypeVar("T")


def query_rollout_status(
    cluster: Cluster,
    kube_deployment: KubeDeployment,
    pods: Sequence[Pod],
    now: float,
    statuses: Mapping[str, ProcessorStatus] | None = None,
) -> RolloutStatus:
    """Return the status of a Deployment's rollout, with all that the cluster knows of its pods.

    `statuses` are the processors' reports; with None they are requested.
    """
    new_pods = [
        pod for pod in rollout_status.newest_pods(kube_deployment, pods) if not pod.is_ready
    ]
    if kube_deployment.is_rolled_out or not new_pods:
        return rollout_status.rollout_status(kube_deployment, pods, (), now)
    return rollout_status.rollout_status(
        kube_deployment,
        pods,
        list_events(cluster, new_pods),
        now,
        list_nodes(cluster) if any(map(_has_no_kubelet, new_pods)) else None,
        query_statuses(cluster, new_pods) if statuses is None else statuses,
        find_missing_references(
            cluster, [pod for pod in new_pods if pod_status.is_waiting_for_volumes(pod, now)]
        ),
    )


def query_pod_finding(cluster: Cluster, pod: Pod, now: float) -> PodFinding | None:
    """Explain why a pod is not ready; None if it is."""
    if pod.is_ready:
        return None
    waiting = [pod] if pod_status.is_waiting_for_volumes(pod, now) else []
    observations = Observations(
        list_events(cluster, [pod]),
        now,
        list_nodes(cluster) if _has_no_kubelet(pod) else None,
        query_statuses(cluster, [pod]),
        missing_references=find_missing_references(cluster, waiting),
    )
    return rollout_status.pod_finding(pod, observations)


def _has_no_kubelet(pod: Pod) -> bool:
    """Return True if no kubelet has accepted the pod: it has no node, or one that is missing."""
    return not (pod.node_name and pod.start_time)


def list_events(cluster: Cluster, pods: Sequence[Pod]) -> list[KubeEvent]:
    """Return the events of pods; none if reading them is forbidden."""
    listed = _map_concurrently(
        lambda pod: _list_events(cluster, pod.namespace, f"involvedObject.uid={pod.uid}"), pods
    )
    return [event for events in listed for event in events]


def find_missing_references(cluster: Cluster, pods: Iterable[Pod]) -> dict[str, PodFinding]:
    """Return the first missing object that a volume needs, by pod.

    A kubelet with many events may report it only a minute later.
    """
    missing: dict[str, PodFinding] = {}
    for pod in pods:
        for reference in kubelet.volume_references(pod):
            with suppress(ForbiddenError):
                if cluster.get(reference.kind, pod.namespace, reference.name) is None:
                    missing.setdefault(pod.name, reference.missing_finding(pod.namespace))
    return missing


def list_warning_events(cluster: Cluster, namespace: str) -> list[KubeEvent]:
    """Return the warning events of a namespace; none if reading them is forbidden."""
    return _list_events(cluster, namespace, "type=Warning")


def _list_events(cluster: Cluster, namespace: str, fields: str) -> list[KubeEvent]:
    events = if_allowed(lambda: cluster.list(kinds.EVENT, namespace, fields=fields), ())
    return list(map(KubeEvent, events))


def list_nodes(cluster: Cluster) -> list[Node] | None:
    """Return all nodes, or None if listing them is forbidden."""
    return if_allowed(lambda: list(map(Node, cluster.list(kinds.NODE, None))), None)


def query_statuses(cluster: Cluster, pods: Iterable[Pod]) -> dict[str, ProcessorStatus]:
    """Return the reports of the processors in these pods, by pod."""
    running = [pod for pod in pods if pod_status.is_function_running(pod)]
    results = _map_concurrently(lambda pod: _status_or_log(cluster, pod), running)
    return {
        pod.name: status for pod, status in zip(running, results, strict=True) if status is not None
    }


def _status_or_log(cluster: Cluster, pod: Pod) -> ProcessorStatus | None:
    try:
        return _query_status(cluster, pod.namespace, pod.name)
    except ForbiddenError:
        return None if pod.is_ready else _status_from_log(cluster, pod.namespace, pod.name)


def _query_status(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    """Return a processor's report, or None without a valid response."""
    body = cluster.get_from_pod(namespace, pod, ADMIN_PORT, "/status")
    try:
        return None if body is None else decode_status(body)
    except msgspec.MsgspecError:
        return None


def query_statistics(
    cluster: Cluster, namespace: str, pods: Sequence[str]
) -> dict[str, Statistics]:
    """Return the statistics of the processors in these pods, as far as this user may read them."""

    def of_one(pod: str) -> Statistics | None:
        body = if_allowed(
            lambda: cluster.get_from_pod(namespace, pod, ADMIN_PORT, "/metrics"), None
        )
        return parse_metrics(body.decode(errors="replace")) if body else None

    results = zip(pods, _map_concurrently(of_one, pods), strict=True)
    return {pod: statistics for pod, statistics in results if statistics is not None}


def change_sleep(cluster: Cluster, pod: Pod, function: Function, action: SleepAction) -> None:
    """Have a pod's processor sleep or wake, as `Platform.change_sleep` does."""
    command = [PROCESSOR_PATH, f"--{action}"]
    limit = sleep_seconds(function, action)
    output = commands.run_command(cluster, pod.namespace, pod.name, CONTAINER, command, limit)
    SleepAnswer.check(output, function.metadata.name, action)


def read_recording(cluster: Cluster, pod: Pod, action: RecordingAction) -> bytes:
    """List, export or clear the recording in a pod, as `Platform.recordings` does."""
    command = [PROCESSOR_PATH, "--recording", action]
    return commands.run_command(
        cluster, pod.namespace, pod.name, CONTAINER, command, _RECORDING_SECONDS
    )


def _status_from_log(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    """Return the failure to start a worker from the log of a processor.

    It replaces the report if reading that is forbidden. Records of the handler have other names,
    and those of requests have a request id.
    """
    texts = [
        record.message.strip()
        for record in logs.last_records(cluster, namespace, pod, CONTAINER)
        if record.level == "error"
        and record.worker is not None
        and record.fields.get("name") == "processor"
        and "request_id" not in record.fields
    ]
    if not texts:
        return None
    # A worker that fails like another one writes only one line.
    text = next((record for record in reversed(texts) if "\n" in record), texts[-1])
    lines = text.splitlines()
    reason = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return ProcessorStatus("unhealthy", 0, 0, reason, text)


def failure_details(cluster: Cluster, namespace: str, pod: str, container: str = CONTAINER) -> str:
    """Return the details of a container's failure, or "".

    This is the handler's traceback in the processor's report, or else the last errors of the log,
    or else its last lines.
    """
    if container == CONTAINER:
        status = if_allowed(lambda: _query_status(cluster, namespace, pod), None)
        if status is not None and status.state != "ready" and status.message:
            return status.detail or status.message
    return logs.failure_output(cluster, namespace, pod, container)


def _map_concurrently(query: Callable[[A], T], items: Sequence[A]) -> list[T]:
    """Return the results for all items, in order."""
    if len(items) < 2:
        return list(map(query, items))
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        return list(pool.map(query, items))
