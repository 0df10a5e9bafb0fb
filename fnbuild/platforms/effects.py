"""What a configuration asks for and does not get on one machine, in few sentences."""

from __future__ import annotations

from collections.abc import Collection

from fnbuild.runtime.config import SERVED
from fnbuild.spec.types import Function, Raw

_UNUSED_ATTRIBUTES = {"reducememoryusage", "streamingflushperiod"}


def without_cluster(
    function: Function, platform: str, more: Raw, limits: Collection[str]
) -> tuple[str, ...]:
    """Warnings of a platform without a cluster.

    `more` are further keys without effect on it, with their values; `limits` the resource limits
    that do have one.
    """
    spec = function.spec
    found = []
    if meaningless := _meaningless(function, more, limits):
        found.append(f"without effect on the {platform} platform: {', '.join(meaningless)}")
    if hidden := [one.name for one in spec.env if one.value_from is not None]:
        found.append(
            f"env values from secrets or fields of a cluster are not set here: {', '.join(hidden)}"
        )
    return (*found, *strange_triggers(function))


def strange_triggers(function: Function) -> tuple[str, ...]:
    """A warning of triggers that no processor serves."""
    other = sorted({trigger.kind for trigger in function.spec.triggers.values()} - {*SERVED})
    return (f"triggers of these kinds do not run here: {', '.join(other)}",) if other else ()


def unused_attributes(function: Function) -> list[str]:
    """Return the attributes of http triggers that no processor reads.

    Items of a streamed reply are sent at once, so no period is needed to flush them. The buffers of
    a connection are small and live as long as it does, so there is no memory to be reduced.
    """
    return [
        f"triggers.{name}.attributes.{key}"
        for name, trigger in function.spec.triggers.items()
        for key, value in trigger.attributes.items()
        if trigger.kind == "http" and key.lower() in _UNUSED_ATTRIBUTES and value
    ]


def _meaningless(function: Function, more: Raw, limits: Collection[str]) -> list[str]:
    """Keys of spec that are set and mean nothing."""
    spec = function.spec
    keys: Raw = {
        "nodeSelector": spec.node_selector,
        "nodeName": spec.node_name,
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "priorityClassName": spec.priority_class_name,
        "resources.requests": spec.resources.requests,
        "sidecars": spec.sidecars,
        "initContainers": spec.init_containers,
        "envFrom": spec.env_from,
        "serviceAccount": spec.service_account,
        "serviceType": spec.service_type,
        "imagePullSecrets": spec.image_pull_secrets,
        "runRegistry": spec.run_registry,
        "scaleToZero": spec.scale_to_zero,
        "autoScaleMetrics": spec.auto_scale_metrics,
        **more,
    }
    found = [key for key, value in keys.items() if value]
    found += [f"resources.limits.{key}" for key in spec.resources.limits if key not in limits]
    counts = {
        "replicas": spec.replicas,
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
    }
    found += [key for key, count in counts.items() if count is not None and count > 1]
    if str(spec.platform.attributes.get("hardened")).lower() == "true":
        found.append("platform.attributes.hardened")
    if any(sink.sink for sink in spec.logger_sinks):
        found.append("loggerSinks.sink")
    return found + unused_attributes(function)
