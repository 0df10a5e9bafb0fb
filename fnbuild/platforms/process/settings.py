"""What a function's configuration means on this platform: where its processor is, and which keys
have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fnbuild.build import processor
from fnbuild.build.requirements import Requirements
from fnbuild.platforms.settings import GPU, MOUNT
from fnbuild.runtime.config import SERVED
from fnbuild.spec.types import Function, Raw


@dataclass(frozen=True, slots=True)
class Place:
    """Where one revision lives: code folder, interpreter of its workers, folder of nuclio_sdk."""

    number: int
    code: str
    interpreter: str
    sdk: str | None


def processor_config(function: Function, place: Place) -> Raw:
    """The processor's configuration but for its listeners, which the supervisor adds."""
    made = processor.settings(function, place.number)
    made["log"]["format"] = "json"
    return made | {
        "code": place.code,
        "mount": MOUNT,
        "immutable": True,
        "interpreter": place.interpreter,
        "env": _environment(function),
        "sdk_path": place.sdk,
        "accept": "immediately",
    }


def _environment(function: Function) -> dict[str, str]:
    return {one.name: one.value for one in function.spec.env if one.value_from is None}


def warnings_for(function: Function, requirements: Requirements) -> tuple[str, ...]:
    """What the function asks for and does not get here, in as few sentences as possible."""
    found = []
    if requirements.ignored:
        lines = "; ".join(str(one) for one in requirements.ignored)
        found.append(f"these build lines need a container and are left out here: {lines}")
    meaningless = _meaningless(function)
    if meaningless:
        found.append(f"without effect on the process platform: {', '.join(meaningless)}")
    if hidden := [one.name for one in function.spec.env if one.value_from is not None]:
        found.append(
            f"env values from secrets or fields of a cluster are not set here: {', '.join(hidden)}"
        )
    if other := sorted({t.kind for t in function.spec.triggers.values()} - {*SERVED}):
        found.append(f"triggers of these kinds do not run here: {', '.join(other)}")
    return tuple(found)


def _meaningless(function: Function) -> list[str]:
    """Keys of spec that are set and mean nothing without a container or a cluster."""
    spec = function.spec
    keys: dict[str, Any] = {
        "nodeSelector": spec.node_selector,
        "nodeName": spec.node_name,
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "priorityClassName": spec.priority_class_name,
        "resources.requests": spec.resources.requests,
        "volumes": spec.volumes,
        "devices": spec.devices,
        "sidecars": spec.sidecars,
        "initContainers": spec.init_containers,
        "envFrom": spec.env_from,
        "securityContext": spec.security_context,
        "serviceAccount": spec.service_account,
        "serviceType": spec.service_type,
        "imagePullSecrets": spec.image_pull_secrets,
        "runRegistry": spec.run_registry,
        "scaleToZero": spec.scale_to_zero,
        "autoScaleMetrics": spec.auto_scale_metrics,
        "hostIPC": spec.host_ipc,
    }
    found = [key for key, value in keys.items() if value]
    # The GPU limit does count: it decides in which order a redeploy starts and stops things.
    found += [f"resources.limits.{key}" for key in spec.resources.limits if key != GPU]
    counts = {
        "replicas": spec.replicas,
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
    }
    found += [key for key, count in counts.items() if count is not None and count > 1]
    if any(sink.sink for sink in spec.logger_sinks):
        found.append("loggerSinks.sink")
    if "network" in spec.platform.attributes:
        found.append("platform.attributes.network")
    return found
