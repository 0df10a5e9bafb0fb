"""The meaning of a function's configuration on platforms that run fnbuild's processors.

That is the restart policy, the requested port, the listen addresses and the GPUs, and warnings
about settings that have no effect.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Literal

import msgspec

from fnbuild.errors import InputError
from fnbuild.runtime.config import SUPPORTED_KINDS
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Function, Raw

CODE_MOUNT_PATH = "/opt/nuclio"
GPU_RESOURCE = "nvidia.com/gpu"

RestartPolicyName = Literal["always", "unless-stopped", "on-failure", "no"]
_POLICIES: dict[str, RestartPolicyName] = {
    "always": "always",
    "unless-stopped": "unless-stopped",
    "on-failure": "on-failure",
    "no": "no",
}


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What happens when a processor ends by itself. `retries` is 0 for no limit.

    Docker's names, as Nuclio's local platform takes them (pkg/platform/local/platform.go); the
    default differs: Nuclio restarts nothing.
    """

    name: RestartPolicyName = "always"
    retries: int = 0

    def allows(self, attempt: int, exit_status: int) -> bool:
        """Whether to start again after `attempt` restarts in a row."""
        if self.name == "on-failure":
            return exit_status != 0 and (self.retries == 0 or attempt < self.retries)
        return self.name != "no"


def restart_policy(function: Function) -> RestartPolicy:
    """`spec.platform.attributes.restartPolicy`: a name, or a map of name and maximumRetryCount."""
    given = function.spec.platform.attributes.get("restartPolicy")
    if not given:
        return RestartPolicy()
    values: Raw = given if isinstance(given, dict) else {"name": given}
    name = values.get("name", "always")
    # `no` without quotes is a bool in YAML.
    name = "no" if name is False else name
    if name not in _POLICIES:
        raise InputError(
            f'spec.platform.attributes.restartPolicy: "{name}" is no restart policy',
            hint=f"one of: {', '.join(_POLICIES)}",
        )
    retries = values.get("maximumRetryCount") or 0
    if not isinstance(retries, int) or retries < 0:
        raise InputError(
            "spec.platform.attributes.restartPolicy.maximumRetryCount must be a whole number,"
            f" not {retries!r}"
        )
    return RestartPolicy(_POLICIES[name], retries)


def requested_port(function: Function) -> int:
    """The port that the http trigger asks for, 0 when it leaves the choice to the platform."""
    trigger = function.http_trigger()
    if trigger is None:
        return 0
    given = trigger[1].attributes.get("port") or 0
    try:
        port = int(given)
    except (TypeError, ValueError):
        port = -1
    if not 0 <= port <= 65535:
        raise InputError(
            f"spec.triggers.{trigger[0]}.attributes.port: {given!r} is no port",
            hint="a number from 1 to 65535; leave it out to get a free one that stays the same",
        )
    return port


def listen_setting(function: Function, default: str = "loopback") -> str:
    """`spec.platform.attributes.listen`, where a function listens beside loopback."""
    return str(function.spec.platform.attributes.get("listen") or default)


def with_listen(function: Function, listen: str) -> Function:
    """The function with another `spec.platform.attributes.listen`."""
    platform = function.spec.platform
    attributes = {**platform.attributes, "listen": listen}
    changed = msgspec.structs.replace(platform, attributes=attributes)
    return msgspec.structs.replace(
        function, spec=msgspec.structs.replace(function.spec, platform=changed)
    )


def gpu_limit(function: Function) -> int:
    """How many GPUs `spec.resources.limits` grants; a part of one counts as one."""
    try:
        given = quantity(function.spec.resources.limits.get(GPU_RESOURCE, "0"))
    except ValueError:
        return 0
    return max(0, int(given.to_integral_value(ROUND_CEILING)))


def needs_gpu(function: Function) -> bool:
    return gpu_limit(function) > 0


_IGNORED_ATTRIBUTES = {"reducememoryusage", "streamingflushperiod"}


def warnings_without_cluster(
    function: Function, platform: str, more: Raw, limits: Collection[str]
) -> tuple[str, ...]:
    """Warnings of a platform without a cluster.

    `more` are further keys without effect on it, with their values; `limits` the resource limits
    that do have one.
    """
    spec = function.spec
    found = []
    if meaningless := _ignored_keys(function, more, limits):
        found.append(f"without effect on the {platform} platform: {', '.join(meaningless)}")
    if hidden := [one.name for one in spec.env if one.value_from is not None]:
        found.append(
            f"env values from secrets or fields of a cluster are not set here: {', '.join(hidden)}"
        )
    return (*found, *unserved_trigger_warnings(function))


def unserved_trigger_warnings(function: Function) -> tuple[str, ...]:
    """A warning of triggers that no processor serves."""
    other = sorted(
        {trigger.kind for trigger in function.spec.triggers.values()} - {*SUPPORTED_KINDS}
    )
    return (f"triggers of these kinds do not run here: {', '.join(other)}",) if other else ()


def ignored_trigger_attributes(function: Function) -> list[str]:
    """Return the attributes of http triggers that no processor reads.

    Items of a streamed reply are sent at once, so no period is needed to flush them. The buffers of
    a connection are small and live as long as it does, so there is no memory to be reduced.
    """
    return [
        f"triggers.{name}.attributes.{key}"
        for name, trigger in function.spec.triggers.items()
        for key, value in trigger.attributes.items()
        if trigger.kind == "http" and key.lower() in _IGNORED_ATTRIBUTES and value
    ]


def _ignored_keys(function: Function, more: Raw, limits: Collection[str]) -> list[str]:
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
    return found + ignored_trigger_attributes(function)
