"""How far one pod is, by what its status alone tells."""

from __future__ import annotations

from fnbuild.platforms.kube.findings import seconds
from fnbuild.platforms.kube.labels import CONTAINER
from fnbuild.spec.types import Raw

MOUNT_SECONDS = 5.0
"""How long something may be missing that others are about to make."""


def is_ready(pod: Raw) -> bool:
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in (pod.get("status") or {}).get("conditions") or []
    )


def runs(pod: Raw) -> bool:
    """Whether the function's own container runs."""
    return any(
        one.get("name") == CONTAINER and "running" in (one.get("state") or {})
        for one in (pod.get("status") or {}).get("containerStatuses") or []
    )


def waits_for_volumes(pod: Raw, now: float, since: float = 0.0) -> bool:
    """Whether no container of a pod with a node has begun, for longer than volumes take."""
    status: Raw = pod.get("status") or {}
    listed = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    waiting = [((one.get("state") or {}).get("waiting") or {}).get("reason") for one in listed]
    began = seconds(status.get("startTime"))
    return (
        began is not None
        and now - max(began, since) >= MOUNT_SECONDS
        and all(reason in ("ContainerCreating", "PodInitializing") for reason in waiting)
    )


def restarts_of(pod: Raw) -> int:
    listed = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(one.get("restartCount") or 0) for one in listed)


def state_of(pod: Raw) -> str:
    """The pod's state in a word, as `kubectl get pods` has it."""
    status: Raw = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for one in status.get("containerStatuses") or []:
        state = one.get("state") or {}
        for part in ("waiting", "terminated"):
            if reason := (state.get(part) or {}).get("reason"):
                return str(reason)
    if status.get("phase") == "Running":
        return "Ready" if is_ready(pod) else "Running"
    return str(status.get("reason") or status.get("phase") or "")
