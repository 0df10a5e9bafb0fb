"""The configuration of a function's container: a body of the engine's API, as pure functions.

It equals that of Nuclio's local platform (pkg/platform/local/platform.go), except for the port,
which is always explicit and published on chosen addresses, and the GPUs, which are as many as
requested instead of all. Volumes become bind mounts, and volumes of other kinds are left out with a
warning.
"""

from __future__ import annotations

import io
import json
import math
import os
import posixpath
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
from fnbuild.function.quantities import parse_duration, parse_quantity
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.docker.labels import CANDIDATE_LABEL, OWNER_LABEL, RevisionRecord
from fnbuild.platforms.settings import gpu_limit, restart_policy

# With these types Kubernetes refuses a path that is not there; the engine would make a folder.
_MUST_EXIST = ("Directory", "File", "Socket", "CharDevice", "BlockDevice")


@dataclass(frozen=True, slots=True)
class ContainerMounts:
    """`binds` as `docker run --volume` takes them, `mounts` as bodies of the API."""

    binds: tuple[str, ...] = ()
    mounts: tuple[Raw, ...] = ()
    warnings: tuple[str, ...] = ()


def mounts_of(function: Function) -> ContainerMounts:
    """The volumes that the engine can have; the others are named in `warnings`.

    Raises `InputError` for a path that cannot be mounted.
    """
    binds: list[str] = []
    mounts: list[Raw] = []
    left_out: list[str] = []
    for number, item in enumerate(function.spec.volumes):
        volume, mount = item.get("volume") or {}, item.get("volumeMount") or {}
        place = f"spec.volumes[{number}]"
        target = _absolute_path(mount.get("mountPath"), f"{place}.volumeMount.mountPath")
        if "hostPath" in volume:
            made = _host_path_mount(volume["hostPath"] or {}, mount, target, place)
            if isinstance(made, str):
                binds.append(made)
            else:
                mounts.append(made)
        elif "emptyDir" in volume:
            mounts.append(_scratch_mount(volume["emptyDir"] or {}, target, place))
        else:
            kind = next((key for key in volume if key != "name"), "nothing")
            left_out.append(f"{mount.get('name') or number} ({kind})")
    text = "volumes of these kinds exist in clusters alone and are left out here: "
    warnings = (text + ", ".join(left_out),) if left_out else ()
    return ContainerMounts(tuple(binds), tuple(mounts), warnings)


def missing_path_warnings(function: Function) -> tuple[str, ...]:
    """What this machine does not have of the paths to be mounted, and the engine will make."""
    found = []
    for bind in mounts_of(function).binds:
        source = bind.partition(":")[0]
        if not os.path.lexists(source):
            found.append(f"there is no {source} on this machine: the engine makes an empty folder")
    return tuple(found)


def _host_path_mount(host: Raw, mount: Raw, target: str, place: str) -> str | Raw:
    """A bind, which makes a folder that is not there, or a mount, which does not."""
    source = _absolute_path(host.get("path"), f"{place}.volume.hostPath.path")
    if inner := mount.get("subPath"):
        source = _join_below(source, str(inner), f"{place}.volumeMount.subPath")
    read_only = bool(mount.get("readOnly"))
    if host.get("type") in _MUST_EXIST or ":" in source + target:
        return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
    return f"{source}:{target}{':ro' if read_only else ''}"


def _scratch_mount(given: Raw, target: str, place: str) -> Raw:
    """Scratch space; in memory it is the usual way to a larger /dev/shm."""
    if given.get("medium") != "Memory":
        return {"Type": "volume", "Target": target}
    mount: Raw = {"Type": "tmpfs", "Target": target}
    if text := given.get("sizeLimit"):
        try:
            mount["TmpfsOptions"] = {"SizeBytes": int(parse_quantity(str(text)))}
        except ValueError as error:
            raise InputError(f"{place}.volume.emptyDir.sizeLimit: {error}") from None
    return mount


def _absolute_path(path: object, place: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise InputError(
            f"{place}: {path!r} is no absolute path",
            hint="`--volume /on/the/machine:/in/the/container`",
        )
    return posixpath.normpath(path)


def _join_below(folder: str, inner: str, place: str) -> str:
    path = posixpath.normpath(posixpath.join(folder, inner))
    if inner.startswith("/") or not f"{path}/".startswith(f"{folder.rstrip('/')}/"):
        raise InputError(f"{place}: {inner!r} leads out of {folder}")
    return path


HTTP_PORT = 8080
"""What a processor in a container listens on, as Nuclio's does."""

CONFIG_PATH = "etc/nuclio/config/processor/processor.json"
HOST_NETWORK = "host"
NO_NETWORK = "none"
_STOP_MARGIN_SECONDS = 5
_LOG_OPTIONS = {"max-size": "16m", "max-file": "2"}


@dataclass(frozen=True, slots=True)
class ContainerPlacement:
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

    def unpublished(self) -> ContainerPlacement:
        """The same without a port of the machine."""
        return replace(self, port=0, hosts=())


CHECK_IMPORT_COMMAND = ("processor", "--check-import")


def create_body(
    made: RevisionRecord,
    place: ContainerPlacement,
    *,
    candidate: bool = False,
    check_import: bool = False,
) -> Raw:
    """What `POST /containers/create` takes. Raises `InputError` for values that cannot work.

    A candidate is not started again when it ends, and says by a label what it is. With
    `check_import` it gets no GPU, and only imports the handler.
    """
    function = made.function
    labels = made.container_labels() | {OWNER_LABEL: place.owner}
    host = _host_config(function, place)
    if candidate:
        labels[CANDIDATE_LABEL] = "true"
        host["RestartPolicy"] = {"Name": "no"}
    if check_import:
        host.pop("DeviceRequests", None)
    body: Raw = {
        "Image": place.image or made.image_id,
        "Env": [f"{one.name}={one.value}" for one in function.spec.env if one.value_from is None],
        "Labels": labels,
        "ExposedPorts": {_tcp_port(HTTP_PORT): {}},
        "StopTimeout": stop_seconds(function),
        "HostConfig": host,
    }
    if check_import:
        body["Cmd"] = list(CHECK_IMPORT_COMMAND)
    if user := _container_user(function, place.image_user):
        body["User"] = user
    if interval := health_interval(function):
        body["Healthcheck"] = {"Interval": int(interval * 1e9)}
    if place.networks and place.networks[0] not in ("bridge", "default", HOST_NETWORK, NO_NETWORK):
        # By its name the function is found through every redeploy; a candidate is not it.
        endpoint = {} if candidate else {"Aliases": [made.key.container]}
        body["NetworkingConfig"] = {"EndpointsConfig": {place.networks[0]: endpoint}}
    return body


def _host_config(function: Function, place: ContainerPlacement) -> Raw:
    spec = function.spec
    volumes = mounts_of(function)
    config: Raw = {
        "RestartPolicy": _restart_policy(function),
        "Binds": list(volumes.binds),
        "Mounts": list(volumes.mounts),
        "Devices": [_parse_device(text) for text in spec.devices],
        "NetworkMode": place.networks[0] if place.networks else "default",
        **_resource_limits(function),
    }
    if place.port:
        bindings = [{"HostIp": host, "HostPort": str(place.port)} for host in place.hosts]
        config["PortBindings"] = {_tcp_port(HTTP_PORT): bindings}
    if count := gpu_limit(function):
        # A count is what `--gpus N` means; Nuclio gives all whatever the number is.
        config["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    if groups := _supplemental_groups(function):
        config["GroupAdd"] = groups
    if spec.host_ipc:
        config["IpcMode"] = "host"
    if place.log_driver == "json-file":
        # Without a limit, a chatty model fills the disk.
        config["LogConfig"] = {"Type": "json-file", "Config": dict(_LOG_OPTIONS)}
    return config


def _tcp_port(port: int) -> str:
    return f"{port}/tcp"


def _restart_policy(function: Function) -> Raw:
    """The engine knows a count with `on-failure` alone; nearly every file has one with `always`."""
    if function.spec.disable:
        return {"Name": "no"}
    policy = restart_policy(function)
    count = {"MaximumRetryCount": policy.retries} if policy.name == "on-failure" else {}
    return {"Name": policy.name, **count}


def _resource_limits(function: Function) -> Raw:
    found: Raw = {}
    limits = function.spec.resources.limits
    if cpu := _parse_limit(limits.get("cpu"), "cpu"):
        found["NanoCpus"] = int(cpu * 10**9)
    if memory := _parse_limit(limits.get("memory"), "memory"):
        found["Memory"] = int(memory)
    return found


def _parse_limit(text: str | None, name: str) -> Decimal:
    try:
        return parse_quantity(text) if text else Decimal(0)
    except ValueError as error:
        raise InputError(f"spec.resources.limits.{name}: {error}") from None


def _parse_device(text: str) -> Raw:
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


def _container_user(function: Function, image_user: str) -> str:
    context = function.spec.security_context or {}
    user, group = context.get("runAsUser"), context.get("runAsGroup")
    if group is None:
        return "" if user is None else str(user)
    own = image_user.partition(":")[0] or "0"
    return f"{own if user is None else user}:{group}"


def _supplemental_groups(function: Function) -> list[str]:
    context = function.spec.security_context or {}
    first = context.get("fsGroup")
    more = context.get("supplementalGroups") or []
    return [str(one) for one in ([] if first is None else [first]) + list(more)]


def stop_seconds(function: Function) -> int:
    """How long a container may take to end what it has in hand, in seconds."""
    return math.ceil(max(DRAIN_SECONDS, termination_seconds(function))) + _STOP_MARGIN_SECONDS


def health_interval(function: Function) -> float:
    """`spec.platform.attributes.healthCheckInterval` in seconds, 0 for the image's own."""
    text = function.spec.platform.attributes.get("healthCheckInterval")
    if not text:
        return 0.0
    try:
        seconds = parse_duration(str(text))
    except ValueError as error:
        raise InputError(f"spec.platform.attributes.healthCheckInterval: {error}") from None
    return max(seconds, 0.001)


def network_names(function: Function) -> tuple[str, ...]:
    """`spec.platform.attributes.network`: a name, several behind commas, or a list of names."""
    given = function.spec.platform.attributes.get("network")
    words = given if isinstance(given, list) else str(given or "").split(",")
    names = tuple(dict.fromkeys(str(word).strip() for word in words if str(word).strip()))
    alone = [one for one in (HOST_NETWORK, NO_NETWORK) if one in names]
    if alone and len(names) > 1:
        raise InputError(
            f'spec.platform.attributes.network: "{alone[0]}" goes with no other network'
        )
    return names


def processor_archive(made: RevisionRecord) -> bytes:
    """The processor's configuration as a tar archive for the root of the container."""
    content = json.dumps(processor_settings(made.function, made.number), indent=1).encode()
    member = tarfile.TarInfo(CONFIG_PATH)
    member.size, member.mode = len(content), 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
