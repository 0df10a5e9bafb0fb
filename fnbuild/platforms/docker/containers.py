"""From a function to the container that runs it: a body of the engine's API, as a pure function.

What Nuclio's local platform makes of a configuration (pkg/platform/local/platform.go) and the same,
but for the port (always an explicit one, on chosen addresses) and the GPUs (as many as were asked
for, not all of them).
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from fnbuild.builder.processor_settings import (
    DRAIN_SECONDS,
    processor_settings,
    termination_seconds,
)
from fnbuild.errors import InputError
from fnbuild.platforms.docker.labels import CANDIDATE, OWNER, Made
from fnbuild.platforms.docker.volumes import volumes_of
from fnbuild.platforms.settings import gpu_limit, restart_policy
from fnbuild.spec.quantities import duration, quantity
from fnbuild.spec.types import Function, Raw

HTTP_PORT = 8080
"""What a processor in a container listens on, as Nuclio's does."""

CONFIG = "etc/nuclio/config/processor/processor.json"
MACHINE = "host"
NOTHING = "none"
_STOP_MARGIN = 5
_LOG = {"max-size": "16m", "max-file": "2"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container goes: its port (0 for none) on these addresses, and what the engine is.

    `image` is a name of the image, where there is one that means it now.
    """

    port: int
    hosts: Sequence[str]
    owner: str = ""
    image_user: str = ""
    log_driver: str = ""
    image: str = ""
    networks: Sequence[str] = field(default_factory=tuple)

    def unpublished(self) -> Place:
        """The same without a port of the machine."""
        return replace(self, port=0, hosts=())


CHECK_IMPORT = ("processor", "--check-import")


def create_body(
    made: Made, place: Place, *, candidate: bool = False, check_import: bool = False
) -> Raw:
    """What `POST /containers/create` takes. Raises `InputError` for values that cannot work.

    A candidate is not started again when it ends, and says by a label what it is. With
    `check_import` it gets no GPU, and only imports the handler.
    """
    function = made.function
    labels = made.container_labels() | {OWNER: place.owner}
    host = _host_config(function, place)
    if candidate:
        labels[CANDIDATE] = "true"
        host["RestartPolicy"] = {"Name": "no"}
    if check_import:
        host.pop("DeviceRequests", None)
    body: Raw = {
        "Image": place.image or made.image_id,
        "Env": [f"{one.name}={one.value}" for one in function.spec.env if one.value_from is None],
        "Labels": labels,
        "ExposedPorts": {_tcp(HTTP_PORT): {}},
        "StopTimeout": stop_seconds(function),
        "HostConfig": host,
    }
    if check_import:
        body["Cmd"] = list(CHECK_IMPORT)
    if user := _user(function, place.image_user):
        body["User"] = user
    if interval := health_interval(function):
        body["Healthcheck"] = {"Interval": int(interval * 1e9)}
    if place.networks and place.networks[0] not in ("bridge", "default", MACHINE, NOTHING):
        # By its name the function is found through every redeploy; a candidate is not it.
        endpoint = {} if candidate else {"Aliases": [made.key.container]}
        body["NetworkingConfig"] = {"EndpointsConfig": {place.networks[0]: endpoint}}
    return body


def _host_config(function: Function, place: Place) -> Raw:
    spec = function.spec
    volumes = volumes_of(function)
    config: Raw = {
        "RestartPolicy": _restart(function),
        "Binds": list(volumes.binds),
        "Mounts": list(volumes.mounts),
        "Devices": [_device(text) for text in spec.devices],
        "NetworkMode": place.networks[0] if place.networks else "default",
        **_limits(function),
    }
    if place.port:
        bindings = [{"HostIp": host, "HostPort": str(place.port)} for host in place.hosts]
        config["PortBindings"] = {_tcp(HTTP_PORT): bindings}
    if count := gpu_limit(function):
        # A count is what `--gpus N` means; Nuclio gives all whatever the number is.
        config["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    if groups := _groups(function):
        config["GroupAdd"] = groups
    if spec.host_ipc:
        config["IpcMode"] = "host"
    if place.log_driver == "json-file":
        # Without a limit, a chatty model fills the disk.
        config["LogConfig"] = {"Type": "json-file", "Config": dict(_LOG)}
    return config


def _tcp(port: int) -> str:
    return f"{port}/tcp"


def _restart(function: Function) -> Raw:
    """The engine knows a count with `on-failure` alone; nearly every file has one with `always`."""
    if function.spec.disable:
        return {"Name": "no"}
    policy = restart_policy(function)
    count = {"MaximumRetryCount": policy.retries} if policy.name == "on-failure" else {}
    return {"Name": policy.name, **count}


def _limits(function: Function) -> Raw:
    found: Raw = {}
    limits = function.spec.resources.limits
    if cpu := _amount(limits.get("cpu"), "cpu"):
        found["NanoCpus"] = int(cpu * 10**9)
    if memory := _amount(limits.get("memory"), "memory"):
        found["Memory"] = int(memory)
    return found


def _amount(text: str | None, name: str) -> Decimal:
    try:
        return quantity(text) if text else Decimal(0)
    except ValueError as error:
        raise InputError(f"spec.resources.limits.{name}: {error}") from None


def _device(text: str) -> Raw:
    """`/dev/x`, `/dev/x:/dev/y` or `/dev/x:/dev/y:rwm`, as `docker run --device` takes them."""
    part = text.split(":")
    if len(part) > 3 or not part[0].startswith("/"):
        raise InputError(
            f"spec.devices: {text!r} is no device", hint="as in /dev/video0 or /dev/video0:/dev/cam"
        )
    inside = part[1] if len(part) > 1 and part[1] else part[0]
    rights = part[2] if len(part) > 2 else "rwm"
    if len(part) == 2 and not inside.startswith("/"):
        inside, rights = part[0], part[1]
    return {"PathOnHost": part[0], "PathInContainer": inside, "CgroupPermissions": rights}


def _user(function: Function, image_user: str) -> str:
    context = function.spec.security_context or {}
    user, group = context.get("runAsUser"), context.get("runAsGroup")
    if group is None:
        return "" if user is None else str(user)
    own = image_user.partition(":")[0] or "0"
    return f"{own if user is None else user}:{group}"


def _groups(function: Function) -> list[str]:
    context = function.spec.security_context or {}
    first = context.get("fsGroup")
    more = context.get("supplementalGroups") or []
    return [str(one) for one in ([] if first is None else [first]) + list(more)]


def stop_seconds(function: Function) -> int:
    """How long a container may take to end what it has in hand, in seconds."""
    return math.ceil(max(DRAIN_SECONDS, termination_seconds(function))) + _STOP_MARGIN


def health_interval(function: Function) -> float:
    """`spec.platform.attributes.healthCheckInterval` in seconds, 0 for the image's own."""
    text = function.spec.platform.attributes.get("healthCheckInterval")
    if not text:
        return 0.0
    try:
        seconds = duration(str(text))
    except ValueError as error:
        raise InputError(f"spec.platform.attributes.healthCheckInterval: {error}") from None
    return max(seconds, 0.001)


def network_names(function: Function) -> tuple[str, ...]:
    """`spec.platform.attributes.network`: a name, several behind commas, or a list of names."""
    given = function.spec.platform.attributes.get("network")
    words = given if isinstance(given, list) else str(given or "").split(",")
    names = tuple(dict.fromkeys(str(word).strip() for word in words if str(word).strip()))
    alone = [one for one in (MACHINE, NOTHING) if one in names]
    if alone and len(names) > 1:
        raise InputError(
            f'spec.platform.attributes.network: "{alone[0]}" goes with no other network'
        )
    return names


def processor_archive(made: Made) -> bytes:
    """The processor's configuration as a tar archive for the root of the container."""
    content = json.dumps(processor_settings(made.function, made.number), indent=1).encode()
    member = tarfile.TarInfo(CONFIG)
    member.size, member.mode = len(content), 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
