"""What a function's configuration means on this platform: the processor's place, the restart
policy, where to listen, and which keys mean nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from fnbuild.build import processor
from fnbuild.build.requirements import Requirements
from fnbuild.errors import InputError
from fnbuild.runtime.config import SERVED
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Function, Raw

MOUNT = "/opt/nuclio"
_GPU = "nvidia.com/gpu"

PolicyName = Literal["always", "unless-stopped", "on-failure", "no"]
_POLICIES: dict[str, PolicyName] = {
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

    name: PolicyName = "always"
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


def wanted_port(function: Function) -> int:
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


def listen_words(function: Function) -> str:
    """`spec.platform.attributes.listen`, where a function listens beside loopback."""
    return str(function.spec.platform.attributes.get("listen") or "loopback")


def wants_gpu(function: Function) -> bool:
    try:
        return quantity(function.spec.resources.limits.get(_GPU, "0")) > Decimal(0)
    except ValueError:
        return False


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
    found += [f"resources.limits.{key}" for key in spec.resources.limits if key != _GPU]
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
