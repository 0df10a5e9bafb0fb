"""What a function's configuration means on every platform that runs processors itself: the restart
policy, the port that it asks for, where it listens, and its GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Literal

import msgspec

from fnbuild.errors import InputError
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Function, Raw

MOUNT = "/opt/nuclio"
GPU = "nvidia.com/gpu"

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


def listen_words(function: Function, default: str = "loopback") -> str:
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
        given = quantity(function.spec.resources.limits.get(GPU, "0"))
    except ValueError:
        return 0
    return max(0, int(given.to_integral_value(ROUND_CEILING)))


def wants_gpu(function: Function) -> bool:
    return gpu_limit(function) > 0
