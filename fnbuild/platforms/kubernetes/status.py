"""Status of pods, and findings about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes.labels import CONTAINER


@dataclass(frozen=True, slots=True)
class PodFinding:
    """`text` is one sentence in lower case, without a period; `hint` says what to do about it.

    `fatal` when waiting does not help. `container` is the one whose log says more, "" for none.
    """

    text: str
    hint: str = ""
    fatal: bool = False
    container: str = ""

    def become(self, *, fatal: bool) -> PodFinding:
        return replace(self, fatal=fatal)


def parse_timestamp(stamp: str | None) -> float | None:
    """A time of the cluster's in seconds since the epoch; None for none."""
    if not stamp:
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


def join_words(words: list[str], joint: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


MOUNT_GRACE_SECONDS = 5.0
"""How long something may be missing that others are about to make."""


def is_pod_ready(pod: Raw) -> bool:
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in (pod.get("status") or {}).get("conditions") or []
    )


def is_function_running(pod: Raw) -> bool:
    """Whether the function's own container runs."""
    return any(
        one.get("name") == CONTAINER and "running" in (one.get("state") or {})
        for one in (pod.get("status") or {}).get("containerStatuses") or []
    )


def is_waiting_for_volumes(pod: Raw, now: float, since: float = 0.0) -> bool:
    """Whether no container of a pod with a node has begun, for longer than volumes take."""
    status: Raw = pod.get("status") or {}
    listed = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    waiting = [((one.get("state") or {}).get("waiting") or {}).get("reason") for one in listed]
    began = parse_timestamp(status.get("startTime"))
    return (
        began is not None
        and now - max(began, since) >= MOUNT_GRACE_SECONDS
        and all(reason in ("ContainerCreating", "PodInitializing") for reason in waiting)
    )


def restart_count(pod: Raw) -> int:
    listed = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(one.get("restartCount") or 0) for one in listed)


def pod_state(pod: Raw) -> str:
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
        return "Ready" if is_pod_ready(pod) else "Running"
    return str(status.get("reason") or status.get("phase") or "")
