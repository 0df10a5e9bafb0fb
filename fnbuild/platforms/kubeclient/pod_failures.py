"""Failures of pods that last: images that cannot be pulled, containers that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fnbuild.platforms.kubeclient.objects import ContainerStatus, Pod

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_CRASH_REASON = "CrashLoopBackOff"


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason why a revision will not become ready.

    `container` is the one with the log, or ""; `detail` is output that is known already.
    """

    text: str
    hint: str = ""
    pod: str = ""
    container: str = ""
    detail: str = ""


def pod_failure(pods: Sequence[Pod]) -> Failure | None:
    """Return a failure of the pods that does not resolve itself, or None."""
    for pod in pods:
        for status in (*pod.init_container_statuses, *pod.container_statuses):
            if (failure := _container_failure(pod, status)) is not None:
                return failure
    return None


def _container_failure(pod: Pod, status: ContainerStatus) -> Failure | None:
    reason, message = status.waiting.text("reason"), status.waiting.text("message")
    if reason in _IMAGE_REASONS:
        text = f"pod {pod.name} cannot pull its image: {message or reason}"
        return Failure(text, "check the image's name, and the secret for its registry")
    if reason in _CONFIG_REASONS:
        return Failure(f"pod {pod.name} cannot start {status.name}: {message or reason}")
    end = status.termination or status.last_termination
    has_failed = bool(end) and end.exit_code != 0
    if reason != _CRASH_REASON and not (has_failed and not status.is_running):
        return None
    cause = "it ran out of memory" if end.out_of_memory else f"exit status {end.exit_code}"
    text = f"container {status.name} of pod {pod.name} failed: {cause}"
    hint = "raise `spec.resources.limits.memory`" if end.out_of_memory else ""
    return Failure(text, hint, pod.name, status.name)
