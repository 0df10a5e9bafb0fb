"""The meaning of a function's configuration on platforms that run fnbuild's processors.

That is the restart policy, the requested port, the listen addresses and the GPUs, and warnings
about settings that have no effect.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Literal, get_args

import msgspec

from fnbuild.errors import InputError
from fnbuild.function.access_settings import allowed_names, authentication_mode, is_open
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.sleep_settings import sleep_settings
from fnbuild.function.trigger_rules import SERVED_KINDS
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.addresses import LOOPBACK

GPU_RESOURCE = "nvidia.com/gpu"

RestartPolicyName = Literal["always", "unless-stopped", "on-failure", "no"]
_IGNORED_ATTRIBUTES = {"reducememoryusage", "streamingflushperiod"}


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The reaction to a processor that ends by itself. `retries` is 0 for no limit.

    The names are Docker's, as in Nuclio's local platform (pkg/platform/local/platform.go). The
    default differs: Nuclio restarts nothing.
    """

    name: RestartPolicyName = "always"
    retries: int = 0

    def allows(self, attempt: int, exit_status: int) -> bool:
        """Return True if the processor may start again after `attempt` restarts in a row."""
        if self.name == "on-failure":
            return exit_status != 0 and (self.retries == 0 or attempt < self.retries)
        return self.name != "no"


def restart_policy(function: Function) -> RestartPolicy:
    """Read `spec.platform.attributes.restartPolicy`: a name, or a map with maximumRetryCount."""
    value = function.spec.platform.attributes.get("restartPolicy")
    if not value:
        return RestartPolicy()
    values: Raw = value if isinstance(value, dict) else {"name": value}
    name = values.get("name", "always")
    # `no` without quotes is a bool in YAML.
    name = "no" if name is False else name
    policy = next((choice for choice in get_args(RestartPolicyName) if choice == name), None)
    if policy is None:
        raise InputError(
            f'spec.platform.attributes.restartPolicy: "{name}" is not a restart policy',
            hint=f"one of: {', '.join(get_args(RestartPolicyName))}",
        )
    retries = values.get("maximumRetryCount") or 0
    if not isinstance(retries, int) or retries < 0:
        raise InputError(
            "spec.platform.attributes.restartPolicy.maximumRetryCount must be a whole number,"
            f" not {retries!r}"
        )
    return RestartPolicy(policy, retries)


def requested_port(function: Function) -> int:
    """Return the port of the http trigger, 0 if the platform may choose one."""
    trigger = function.http_trigger()
    if trigger is None:
        return 0
    value = trigger[1].attributes.get("port") or 0
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = -1
    if not 0 <= port <= 65535:
        raise InputError(
            f"spec.triggers.{trigger[0]}.attributes.port: {value!r} is not a port",
            hint="a number from 1 to 65535; without it, the function gets a free port and keeps it",
        )
    return port


def listen_setting(function: Function, default: str = "loopback") -> str:
    """Return `spec.platform.attributes.listen`, the listen addresses in addition to loopback."""
    return str(function.spec.platform.attributes.get("listen") or default)


def allowed_hosts(function: Function, *own_names: str) -> list[str] | None:
    """Return the further names by which clients may call a function on this machine only.

    `own_names` are those that the platform gives it. The result is None, without checks of Host and
    Origin, if other machines reach the function, or if it is declared to be open.
    """
    if is_open(function) or _other_addresses(function):
        return None
    return [*own_names, *allowed_names(function)]


def _other_addresses(function: Function) -> list[str]:
    """Return the listen addresses that other machines may reach."""
    words = [word.strip() for word in listen_setting(function).split(",")]
    return [word for word in words if word not in ("", "loopback", "docker", LOOPBACK)]


def open_port_warnings(function: Function) -> tuple[str, ...]:
    """Return a warning about a function that others can call without credentials."""
    addresses = _other_addresses(function)
    closed = is_open(function) or authentication_mode(function) != "none"
    if closed or not addresses or function.http_trigger() is None:
        return ()
    return (
        f"everybody who reaches {', '.join(addresses)} may call {function.metadata.name}:"
        " authenticationMode of its http trigger asks for credentials, `--open` states that it"
        " needs none",
    )


def with_listen(function: Function, listen: str) -> Function:
    """Return the function with another `spec.platform.attributes.listen`."""
    platform = function.spec.platform
    attributes = {**platform.attributes, "listen": listen}
    return function.with_spec(platform=msgspec.structs.replace(platform, attributes=attributes))


def gpu_limit(function: Function) -> int:
    """Return the number of GPUs in `spec.resources.limits`, rounded up."""
    try:
        limit = parse_quantity(function.spec.resources.limits.get(GPU_RESOURCE, "0"))
    except ValueError:
        return 0
    return max(0, int(limit.to_integral_value(ROUND_CEILING)))


def needs_gpu(function: Function) -> bool:
    return gpu_limit(function) > 0


def warnings_without_cluster(
    function: Function, platform: str, more: Raw, limits: Collection[str]
) -> tuple[str, ...]:
    """Return warnings about settings that have no effect on a platform without a cluster.

    `more` are further keys without effect there, with their values; `limits` are the resource
    limits that it does support.
    """
    spec = function.spec
    warnings = []
    if ignored := _ignored_keys(function, more, limits):
        warnings.append(f"without effect on the {platform} platform: {', '.join(ignored)}")
    if names := [variable.name for variable in spec.env if variable.value_from is not None]:
        warnings.append(
            f"env values from secrets or fields of a cluster are not set here: {', '.join(names)}"
        )
    return (*warnings, *open_port_warnings(function), *unserved_trigger_warnings(function))


def unserved_trigger_warnings(function: Function) -> tuple[str, ...]:
    """Return a warning about triggers of kinds that processors do not serve."""
    other = sorted(
        {trigger.kind for trigger in function.spec.triggers.values()} - SERVED_KINDS.keys()
    )
    return (f"triggers of these kinds do not run here: {', '.join(other)}",) if other else ()


def ignored_trigger_attributes(function: Function) -> list[str]:
    """Return the attributes of http triggers that processors ignore.

    Items of a streamed reply are sent at once, without a flush period. The buffers of a connection
    are small, so there is no memory usage to reduce.
    """
    return [
        f"triggers.{name}.attributes.{key}"
        for name, trigger in function.spec.triggers.items()
        for key, value in trigger.attributes.items()
        if trigger.kind == "http" and key.lower() in _IGNORED_ATTRIBUTES and value
    ]


def _ignored_keys(function: Function, more: Raw, limits: Collection[str]) -> list[str]:
    """Return the keys of the spec that are set but have no effect."""
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
        "scaleToZero": spec.scale_to_zero and not sleep_settings(function).idle_timeout,
        "autoScaleMetrics": spec.auto_scale_metrics,
        **more,
    }
    ignored = [key for key, value in keys.items() if value]
    ignored += [f"resources.limits.{key}" for key in spec.resources.limits if key not in limits]
    counts = {
        "replicas": spec.replicas,
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
    }
    ignored += [key for key, count in counts.items() if count is not None and count > 1]
    if str(spec.platform.attributes.get("hardened")).lower() == "true":
        ignored.append("platform.attributes.hardened")
    if any(sink.sink for sink in spec.logger_sinks):
        ignored.append("loggerSinks.sink")
    return ignored + ignored_trigger_attributes(function)
