"""The status of pods, and findings about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes.labels import CONTAINER

MOUNT_GRACE_SECONDS = 5.0
"""The time in which a missing object may still be created by other clients."""


@dataclass(frozen=True, slots=True)
class PodFinding:
    """A finding about a pod: a sentence in lower case without a period, and the remedy.

    `fatal` findings do not resolve themselves. `container` is the one whose log has details, or "".
    """

    text: str
    hint: str = ""
    fatal: bool = False
    container: str = ""

    def with_fatal(self, *, fatal: bool) -> PodFinding:
        return replace(self, fatal=fatal)


def parse_timestamp(stamp: str | None) -> float | None:
    """Return a timestamp of the API in seconds since the epoch; None for an invalid one."""
    if not stamp:
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


def join_words(words: list[str], joint: str = "and") -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


def is_pod_ready(pod: Raw) -> bool:
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in (pod.get("status") or {}).get("conditions") or []
    )


def is_function_running(pod: Raw) -> bool:
    """Return True if the function's own container is running."""
    return any(
        container_status.get("name") == CONTAINER
        and "running" in (container_status.get("state") or {})
        for container_status in (pod.get("status") or {}).get("containerStatuses") or []
    )


def is_waiting_for_volumes(pod: Raw, now: float, since: float = 0.0) -> bool:
    """Return True if no container of a scheduled pod has started, for longer than mounts take."""
    status: Raw = pod.get("status") or {}
    listed = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    waiting = [
        ((container_status.get("state") or {}).get("waiting") or {}).get("reason")
        for container_status in listed
    ]
    began = parse_timestamp(status.get("startTime"))
    return (
        began is not None
        and now - max(began, since) >= MOUNT_GRACE_SECONDS
        and all(reason in ("ContainerCreating", "PodInitializing") for reason in waiting)
    )


def restart_count(pod: Raw) -> int:
    listed = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(container_status.get("restartCount") or 0) for container_status in listed)


def pod_state(pod: Raw) -> str:
    """Return the state of a pod in one word, as `kubectl get pods` does."""
    status: Raw = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for container_status in status.get("containerStatuses") or []:
        state = container_status.get("state") or {}
        for phase in ("waiting", "terminated"):
            if reason := (state.get(phase) or {}).get("reason"):
                return str(reason)
    if status.get("phase") == "Running":
        return "Ready" if is_pod_ready(pod) else "Running"
    return str(status.get("reason") or status.get("phase") or "")
