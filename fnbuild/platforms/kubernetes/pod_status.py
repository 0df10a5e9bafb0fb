"""The status of pods, and findings about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from fnbuild.platforms.kubeclient.objects import Pod
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


def is_function_running(pod: Pod) -> bool:
    """Return True if the function's own container is running."""
    return any(status.is_running for status in pod.container_statuses if status.name == CONTAINER)


def is_waiting_for_volumes(pod: Pod, now: float, since: float = 0.0) -> bool:
    """Return True if no container of a scheduled pod has started, for longer than mounts take."""
    began = parse_timestamp(pod.start_time)
    return (
        began is not None
        and now - max(began, since) >= MOUNT_GRACE_SECONDS
        and all(
            status.waiting.get("reason") in ("ContainerCreating", "PodInitializing")
            for status in (*pod.init_container_statuses, *pod.container_statuses)
        )
    )


def pod_state(pod: Pod) -> str:
    """Return the state of a pod in one word, as `kubectl get pods` does."""
    if pod.is_terminating:
        return "Terminating"
    for status in pod.container_statuses:
        for state in (status.waiting, status.termination):
            if state and (reason := state.text("reason")):
                return reason
    if pod.phase == "Running":
        return "Ready" if pod.is_ready else "Running"
    return pod.reason or pod.phase
