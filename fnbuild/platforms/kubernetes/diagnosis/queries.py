"""Queries about the pods of a function: their events, processors and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import msgspec

from fnbuild.function.types import Raw
from fnbuild.platforms import Statistics
from fnbuild.platforms.kubeclient import kinds, logs
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.kubernetes import status
from fnbuild.platforms.kubernetes.diagnosis import kubelet, rollout_status
from fnbuild.platforms.kubernetes.diagnosis.rollout_status import RolloutStatus
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.status import PodFinding
from fnbuild.platforms.processor_status import (
    ADMIN_PORT,
    ProcessorStatus,
    decode_status,
    parse_metrics,
)

_MAX_THREADS = 8

A = TypeVar("A")
T = TypeVar("T")


def query_rollout_status(
    cluster: Cluster,
    deployment: Raw,
    pods: Sequence[Raw],
    now: float,
    statuses: Mapping[str, ProcessorStatus] | None = None,
) -> RolloutStatus:
    """How far the rollout of one Deployment is, with all that can be asked about its pods.

    `statuses` are what their processors say; with None they are asked.
    """
    newest = [
        pod for pod in rollout_status.newest_pods(deployment, pods) if not status.is_pod_ready(pod)
    ]
    if rollout_status.is_rolled_out(deployment) or not newest:
        return rollout_status.rollout_status(deployment, pods, (), now)
    return rollout_status.rollout_status(
        deployment,
        pods,
        list_events(cluster, newest),
        now,
        list_nodes(cluster) if any(map(_has_no_kubelet, newest)) else None,
        query_statuses(cluster, newest) if statuses is None else statuses,
        find_missing_references(
            cluster, [pod for pod in newest if status.is_waiting_for_volumes(pod, now)]
        ),
    )


def _has_no_kubelet(pod: Raw) -> bool:
    """Whether no kubelet has taken the pod, be it that it has no node or one that is not there."""
    return not (pod["spec"].get("nodeName") and (pod.get("status") or {}).get("startTime"))


def list_events(cluster: Cluster, pods: Sequence[Raw]) -> list[Raw]:
    """The events of these pods; none where it is forbidden to read them."""

    def of_one(pod: Raw) -> list[Raw]:
        about = f"involvedObject.uid={pod['metadata']['uid']}"
        try:
            return cluster.list(kinds.EVENT, pod["metadata"]["namespace"], fields=about)
        except ForbiddenError:
            return []

    return [one for some in _map_concurrently(of_one, pods) for one in some]


def find_missing_references(cluster: Cluster, pods: Iterable[Raw]) -> dict[str, PodFinding]:
    """The first thing that is not there and that a volume needs, by pod; a kubelet with many events
    to tell may tell of it a minute later.
    """
    found: dict[str, PodFinding] = {}
    for pod in pods:
        name, namespace = str(pod["metadata"]["name"]), str(pod["metadata"]["namespace"])
        for one in kubelet.volume_references(pod):
            with suppress(ForbiddenError):
                if cluster.get(one.kind, namespace, one.name) is None:
                    found.setdefault(name, one.absent(namespace))
    return found


def list_warning_events(cluster: Cluster, namespace: str) -> list[Raw]:
    """The events of a namespace that tell of trouble; none where it is forbidden to read them."""
    try:
        return cluster.list(kinds.EVENT, namespace, fields="type=Warning")
    except ForbiddenError:
        return []


def list_nodes(cluster: Cluster) -> list[Raw] | None:
    """All nodes; None where it is forbidden to see them."""
    try:
        return cluster.list(kinds.NODE, None)
    except ForbiddenError:
        return None


def query_statuses(cluster: Cluster, pods: Iterable[Raw]) -> dict[str, ProcessorStatus]:
    """What the processors say that run in these pods, by pod."""
    asked = [pod for pod in pods if status.is_function_running(pod)]
    said = _map_concurrently(lambda pod: _status_or_log(cluster, pod), asked)
    return {
        str(pod["metadata"]["name"]): status
        for pod, status in zip(asked, said, strict=True)
        if status is not None
    }


def _status_or_log(cluster: Cluster, pod: Raw) -> ProcessorStatus | None:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    try:
        return _query_status(cluster, namespace, name)
    except ForbiddenError:
        return None if status.is_pod_ready(pod) else _status_from_log(cluster, namespace, name)


def _query_status(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    """None when it is no processor of fnbuild's, or does not answer."""
    body = cluster.proxy(namespace, pod, ADMIN_PORT, "/status")
    try:
        return None if body is None else decode_status(body)
    except msgspec.MsgspecError:
        return None


def query_statistics(
    cluster: Cluster, namespace: str, pods: Sequence[str]
) -> dict[str, Statistics]:
    """What the processors of these pods count; those that may not be asked tell nothing."""

    def of_one(pod: str) -> Statistics | None:
        try:
            body = cluster.proxy(namespace, pod, ADMIN_PORT, "/metrics")
        except ForbiddenError:
            return None
        return parse_metrics(body.decode(errors="replace")) if body else None

    found = zip(pods, _map_concurrently(of_one, pods), strict=True)
    return {pod: statistics for pod, statistics in found if statistics is not None}


def _status_from_log(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    """What the log of a processor that may not be asked tells: that a worker could not start.

    The handler's own records have other names, and those of requests a request's id.
    """
    texts = [
        one.message.strip()
        for one in logs.last_records(cluster, namespace, pod, CONTAINER)
        if one.level == "error"
        and one.worker is not None
        and one.fields.get("name") == "processor"
        and "request_id" not in one.fields
    ]
    if not texts:
        return None
    # A worker that fails like another one says it in a line.
    text = next((one for one in reversed(texts) if "\n" in one), texts[-1])
    lines = text.splitlines()
    reason = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return ProcessorStatus("unhealthy", 0, 0, reason, text)


def failure_details(cluster: Cluster, namespace: str, pod: str, container: str = CONTAINER) -> str:
    """What a container that is not well has said about it: the handler's own traceback from the
    processor's status, else the last errors of its log, else its last lines. "" for nothing.
    """
    if container == CONTAINER:
        status = _query_status_if_allowed(cluster, namespace, pod)
        if status is not None and status.state != "ready" and status.message:
            return status.detail or status.message
    return logs.failure_output(cluster, namespace, pod, container)


def _query_status_if_allowed(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    try:
        return _query_status(cluster, namespace, pod)
    except ForbiddenError:
        return None


def _map_concurrently(asking: Callable[[A], T], about: Sequence[A]) -> list[T]:
    """The answers about each, in order."""
    if len(about) < 2:
        return [asking(one) for one in about]
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        return list(pool.map(asking, about))
