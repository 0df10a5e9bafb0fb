"""The current state of functions, from KServe's status and their pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms import Artifact, Deployment, FunctionState
from fnbuild.platforms.base import placeholder_function
from fnbuild.platforms.kserve import inventory
from fnbuild.platforms.kserve.inventory import FunctionObjects
from fnbuild.platforms.kserve.pod_fields import MODE_WORDS
from fnbuild.platforms.kserve.service_status import InferenceService
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import Pod, pod_objects
from fnbuild.platforms.kubeclient.pod_failures import pod_failure
from fnbuild.platforms.settings import gpu_limit

PLATFORM_NAME = "kserve"


@dataclass(frozen=True, slots=True)
class _StateMessage:
    state: FunctionState
    message: str = ""


def to_deployment(cluster: Cluster, objects: FunctionObjects) -> Deployment:
    """Return a function in the form of the platform protocol."""
    pods: list[Pod] = if_allowed(lambda: inventory.list_pods(cluster, objects), [])
    active = [pod for pod in pods if pod.is_active]
    revision = objects.described_by
    function = _configuration(objects)
    current = _current_state(objects, function, active)
    service = objects.service
    details: dict[str, Any] = {
        "server": cluster.server,
        "context": cluster.context,
        "mode": service.mode if service is not None else "",
        "image": revision.image if revision is not None else "",
        "gpu": gpu_limit(function),
        "pods": pod_objects(active),
    }
    if not objects.is_managed:
        details["deployed_by"] = "another tool"
    return Deployment(
        function=function,
        platform=PLATFORM_NAME,
        state=current.state,
        message=current.message,
        revision=revision.number if revision is not None else 0,
        grpc_port=service.grpc_port(objects.components[-1]) if service is not None else 0,
        internal_urls=_urls(service.internal_url if service is not None else ""),
        external_urls=_urls(service.url if service is not None else ""),
        replicas=(sum(pod.is_ready for pod in active), len(active)),
        image=_image(objects),
        processors=tuple(pod.name for pod in active if pod.is_ready),
        service=service.service_status() if service is not None else None,
        host=service.host if service is not None else "",
        details={key: value for key, value in details.items() if value},
    ).with_ongoing_change(objects.record.ongoing_change)


def _urls(url: str) -> tuple[str, ...]:
    return (url,) if url else ()


def _image(objects: FunctionObjects) -> Artifact | None:
    revision = objects.described_by
    return revision.artifact if revision is not None and revision.image else None


def _configuration(objects: FunctionObjects) -> Function:
    if (revision := objects.described_by) is not None:
        return revision.function
    if (config := objects.record.imported_config) is not None:
        return function_from_dict(config, objects.key.name)
    return placeholder_function(objects.key, objects.record.project or DEFAULT_PROJECT)


def _current_state(objects: FunctionObjects, function: Function, pods: list[Pod]) -> _StateMessage:
    record, revision = objects.record, objects.described_by
    is_runtime = objects.settings.serving_runtime is not None
    if record.imported_config is not None and revision is None:
        return _StateMessage("imported")
    if revision is not None and record.serving is None:
        return _StateMessage("error", revision.failure)
    if (objects.runtime if is_runtime else objects.service) is None:
        return _missing(objects, "serving runtime" if is_runtime else "InferenceService")
    if function.spec.disable:
        return _StateMessage("standby")
    if objects.service is None:
        return _StateMessage("ready")  # a serving runtime, which has no pods
    return _service_state(objects.service, pods)


def _missing(objects: FunctionObjects, kind: str) -> _StateMessage:
    if objects.described_by is None:
        return _StateMessage("building", "its first deploy is under way")
    redeploy = f"`fnbuild redeploy {objects.key.name}` creates it again"
    return _StateMessage("unhealthy", f"its {kind} was removed; {redeploy}")


def _service_state(service: InferenceService, pods: list[Pod]) -> _StateMessage:
    if service.is_ready:
        is_asleep = not pods and MODE_WORDS.get(service.mode) == "Knative"
        return _StateMessage("scaledToZero" if is_asleep else "ready")
    failure = pod_failure(pods) or service.failure
    if failure is not None:
        text = f"{failure.text}; {failure.hint}" if failure.hint else failure.text
        return _StateMessage("unhealthy", text)
    return _StateMessage("building", "; ".join(service.unready_conditions))
