"""Asking a cluster how the pods of a function are: their events, their processors, their logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import msgspec

from fnbuild.platforms import Statistics
from fnbuild.platforms.cluster import kinds, lastwords
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.kube import missing, podstates, reasons
from fnbuild.platforms.kube.findings import Finding
from fnbuild.platforms.kube.labels import CONTAINER
from fnbuild.platforms.kube.reasons import Standing
from fnbuild.platforms.processor_status import (
    ADMIN_PORT,
    ProcessorStatus,
    decode_status,
    parse_metrics,
)
from fnbuild.spec.types import Raw

_ASKED_AT_ONCE = 8

A = TypeVar("A")
T = TypeVar("T")


def standing(
    cluster: Cluster,
    deployment: Raw,
    pods: Sequence[Raw],
    now: float,
    statuses: Mapping[str, ProcessorStatus] | None = None,
) -> Standing:
    """How far the rollout of one Deployment is, with all that can be asked about its pods.

    `statuses` are what their processors say; with None they are asked.
    """
    newest = [pod for pod in reasons.of_newest(deployment, pods) if not podstates.is_ready(pod)]
    if reasons.rolled_out(deployment) or not newest:
        return reasons.standing(deployment, pods, (), now)
    return reasons.standing(
        deployment,
        pods,
        events_of(cluster, newest),
        now,
        nodes_of(cluster) if any(map(_is_without_node, newest)) else None,
        statuses_of(cluster, newest) if statuses is None else statuses,
        absent_of(cluster, [pod for pod in newest if podstates.waits_for_volumes(pod, now)]),
    )


def _is_without_node(pod: Raw) -> bool:
    """Whether no kubelet has taken the pod, be it that it has no node or one that is not there."""
    return not (pod["spec"].get("nodeName") and (pod.get("status") or {}).get("startTime"))


def events_of(cluster: Cluster, pods: Sequence[Raw]) -> list[Raw]:
    """The events of these pods; none where it is forbidden to read them."""

    def of_one(pod: Raw) -> list[Raw]:
        about = f"involvedObject.uid={pod['metadata']['uid']}"
        try:
            return cluster.list(kinds.EVENT, pod["metadata"]["namespace"], fields=about)
        except ForbiddenError:
            return []

    return [one for some in _each(of_one, pods) for one in some]


def absent_of(cluster: Cluster, pods: Iterable[Raw]) -> dict[str, Finding]:
    """The first thing that is not there and that a volume needs, by pod; a kubelet with many events
    to tell may tell of it a minute later.
    """
    found: dict[str, Finding] = {}
    for pod in pods:
        name, namespace = str(pod["metadata"]["name"]), str(pod["metadata"]["namespace"])
        for one in missing.sources(pod):
            with suppress(ForbiddenError):
                if cluster.get(one.kind, namespace, one.name) is None:
                    found.setdefault(name, one.absent(namespace))
    return found


def warnings(cluster: Cluster, namespace: str) -> list[Raw]:
    """The events of a namespace that tell of trouble; none where it is forbidden to read them."""
    try:
        return cluster.list(kinds.EVENT, namespace, fields="type=Warning")
    except ForbiddenError:
        return []


def nodes_of(cluster: Cluster) -> list[Raw] | None:
    """All nodes; None where it is forbidden to see them."""
    try:
        return cluster.list(kinds.NODE, None)
    except ForbiddenError:
        return None


def statuses_of(cluster: Cluster, pods: Iterable[Raw]) -> dict[str, ProcessorStatus]:
    """What the processors say that run in these pods, by pod."""
    asked = [pod for pod in pods if podstates.runs(pod)]
    said = _each(lambda pod: _status(cluster, pod), asked)
    return {
        str(pod["metadata"]["name"]): status
        for pod, status in zip(asked, said, strict=True)
        if status is not None
    }


def _status(cluster: Cluster, pod: Raw) -> ProcessorStatus | None:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    try:
        return _answer(cluster, namespace, name)
    except ForbiddenError:
        return None if podstates.is_ready(pod) else _failure(cluster, namespace, name)


def _answer(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    """None when it is no processor of fnbuild's, or does not answer."""
    body = cluster.proxy(namespace, pod, ADMIN_PORT, "/status")
    try:
        return None if body is None else decode_status(body)
    except msgspec.MsgspecError:
        return None


def statistics_of(cluster: Cluster, namespace: str, pods: Sequence[str]) -> dict[str, Statistics]:
    """What the processors of these pods count; those that may not be asked tell nothing."""

    def of_one(pod: str) -> Statistics | None:
        try:
            body = cluster.proxy(namespace, pod, ADMIN_PORT, "/metrics")
        except ForbiddenError:
            return None
        return parse_metrics(body.decode(errors="replace")) if body else None

    found = zip(pods, _each(of_one, pods), strict=True)
    return {pod: statistics for pod, statistics in found if statistics is not None}


def _failure(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    """What the log of a processor that may not be asked tells: that a worker could not start.

    The handler's own records have other names, and those of requests a request's id.
    """
    texts = [
        one.message.strip()
        for one in lastwords.records(cluster, namespace, pod, CONTAINER)
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


def last_words(cluster: Cluster, namespace: str, pod: str, container: str = CONTAINER) -> str:
    """What a container that is not well has said about it: the handler's own traceback from the
    processor's status, else the last errors of its log, else its last lines. "" for nothing.
    """
    if container == CONTAINER:
        status = _answered(cluster, namespace, pod)
        if status is not None and status.state != "ready" and status.message:
            return status.detail or status.message
    return lastwords.of(cluster, namespace, pod, container)


def _answered(cluster: Cluster, namespace: str, pod: str) -> ProcessorStatus | None:
    try:
        return _answer(cluster, namespace, pod)
    except ForbiddenError:
        return None


def _each(asking: Callable[[A], T], about: Sequence[A]) -> list[T]:
    """The answers about each, in order."""
    if len(about) < 2:
        return [asking(one) for one in about]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(asking, about))
