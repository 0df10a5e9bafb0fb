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

from fnbuild.builder.grpc_packages import serves_grpc
from fnbuild.builder.processor_settings import (
    DRAIN_SECONDS,
    processor_settings,
    termination_seconds,
)
from fnbuild.errors import InputError
from fnbuild.function.quantities import parse_duration, parse_quantity
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.docker.labels import CANDIDATE_LABEL, OWNER_LABEL, RevisionRecord
from fnbuild.platforms.gpu_groups import add_group
from fnbuild.platforms.settings import allowed_hosts, gpu_limit, restart_policy

# A path of these types must exist, as in Kubernetes; the engine would create a folder.
_MUST_EXIST = ("Directory", "File", "Socket", "CharDevice", "BlockDevice")

HTTP_PORT = 8080
"""The port of a processor in a container, as in Nuclio."""

GRPC_PORT = 8081
"""The gRPC port of a processor in a container, as in KServe."""

GROUP_FOLDER = "/run/fnbuild/gpu-group"
"""The folder of the function's GPU group in its container."""

CONFIG_PATH = "etc/nuclio/config/processor/processor.json"
HOST_NETWORK = "host"
NO_NETWORK = "none"
_STOP_MARGIN_SECONDS = 5
CHECK_IMPORT_COMMAND = ("processor", "--check-import")
_LOG_OPTIONS = {"max-size": "16m", "max-file": "2"}


@dataclass(frozen=True, slots=True)
class ContainerPlacement:
    """The ports (0 for none), addresses and networks of a container, and facts about the engine.

    `image` is a reference that currently is the image's, or "". `group_folder` is that of the
    function's GPU group on this machine, or "".
    """

    port: int
    hosts: Sequence[str]
    owner: str = ""
    image_user: str = ""
    log_driver: str = ""
    image: str = ""
    networks: Sequence[str] = field(default_factory=tuple)
    grpc_port: int = 0
    group_folder: str = ""

    @property
    def port_bindings(self) -> dict[str, list[dict[str, str]]]:
        """The published ports in the form of the engine's API."""
        ports = {HTTP_PORT: self.port, GRPC_PORT: self.grpc_port}
        return {
            _tcp_port(inner): [{"HostIp": host, "HostPort": str(outer)} for host in self.hosts]
            for inner, outer in ports.items()
            if outer
        }

    def unpublished(self) -> ContainerPlacement:
        """Return the placement without a published port."""
        return replace(self, port=0, grpc_port=0, hosts=())


def create_body(
    revision: RevisionRecord,
    placement: ContainerPlacement,
    *,
    trial: bool = False,
    check_import: bool = False,
) -> Raw:
    """Return the body of `POST /containers/create`. Raises `InputError` for invalid values.

    A trial container has a label and is not restarted. With `check_import` the container has no GPU
    and only imports the handler.
    """
    function = revision.function
    labels = revision.container_labels() | {OWNER_LABEL: placement.owner}
    host = _host_config(function, placement)
    if trial:
        labels[CANDIDATE_LABEL] = "true"
        host["RestartPolicy"] = {"Name": "no"}
    if check_import:
        host.pop("DeviceRequests", None)
    exposed = (HTTP_PORT, GRPC_PORT) if serves_grpc(function) else (HTTP_PORT,)
    body: Raw = {
        "Image": placement.image or revision.image_id,
        "Env": [
            f"{variable.name}={variable.value}"
            for variable in function.spec.env
            if variable.value_from is None
        ],
        "Labels": labels,
        "ExposedPorts": {_tcp_port(port): {} for port in exposed},
        "StopTimeout": stop_seconds(function),
        "HostConfig": host,
    }
    if check_import:
        body["Cmd"] = list(CHECK_IMPORT_COMMAND)
    if user := _container_user(function, placement.image_user):
        body["User"] = user
    if interval := health_interval(function):
        body["Healthcheck"] = {"Interval": int(interval * 1e9)}
    if placement.networks and placement.networks[0] not in (
        "bridge",
        "default",
        HOST_NETWORK,
        NO_NETWORK,
    ):
        # Containers find the function by this alias; a trial container does not have it.
        endpoint = {} if trial else {"Aliases": [revision.key.container_name]}
        body["NetworkingConfig"] = {"EndpointsConfig": {placement.networks[0]: endpoint}}
    return body


def _host_config(function: Function, placement: ContainerPlacement) -> Raw:
    spec = function.spec
    volumes = mounts_of(function)
    config: Raw = {
        "RestartPolicy": _restart_policy(function),
        "Binds": list(volumes.binds),
        "Mounts": [*volumes.mounts, *_group_mount(placement)],
        "Devices": [_parse_device(text) for text in spec.devices],
        "NetworkMode": placement.networks[0] if placement.networks else "default",
        **_resource_limits(function),
    }
    if bindings := placement.port_bindings:
        config["PortBindings"] = bindings
    if count := gpu_limit(function):
        # The count is that of `--gpus N`; Nuclio gives all GPUs for any number.
        config["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    if groups := _supplemental_groups(function):
        config["GroupAdd"] = groups
    if spec.host_ipc:
        config["IpcMode"] = "host"
    if placement.log_driver == "json-file":
        # Without a limit, a long log fills the disk.
        config["LogConfig"] = {"Type": "json-file", "Config": dict(_LOG_OPTIONS)}
    return config


def _group_mount(placement: ContainerPlacement) -> list[Raw]:
    source = placement.group_folder
    return [{"Type": "bind", "Source": source, "Target": GROUP_FOLDER}] if source else []


def _tcp_port(port: int) -> str:
    return f"{port}/tcp"


def _restart_policy(function: Function) -> Raw:
    """Return the restart policy. The engine accepts a retry count only with `on-failure`."""
    if function.spec.disable:
        return {"Name": "no"}
    policy = restart_policy(function)
    count = {"MaximumRetryCount": policy.retries} if policy.name == "on-failure" else {}
    return {"Name": policy.name, **count}


def _resource_limits(function: Function) -> Raw:
    resources: Raw = {}
    limits = function.spec.resources.limits
    if cpu := _parse_limit(limits.get("cpu"), "cpu"):
        resources["NanoCpus"] = int(cpu * 10**9)
    if memory := _parse_limit(limits.get("memory"), "memory"):
        resources["Memory"] = int(memory)
    return resources


def _parse_limit(text: str | None, name: str) -> Decimal:
    try:
        return parse_quantity(text) if text else Decimal(0)
    except ValueError as error:
        raise InputError(f"spec.resources.limits.{name}: {error}") from None


def _parse_device(text: str) -> Raw:
    """Parse a device in the syntax of `docker run --device`: /dev/x, /dev/x:/dev/y[:rwm]."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0].startswith("/"):
        raise InputError(
            f"spec.devices: {text!r} is not a device",
            hint="use a path such as /dev/video0 or /dev/video0:/dev/cam",
        )
    target = parts[1] if len(parts) > 1 and parts[1] else parts[0]
    permissions = parts[2] if len(parts) > 2 else "rwm"
    if len(parts) == 2 and not target.startswith("/"):
        target, permissions = parts[0], parts[1]
    return {"PathOnHost": parts[0], "PathInContainer": target, "CgroupPermissions": permissions}


def _container_user(function: Function, image_user: str) -> str:
    context = function.spec.security_context or {}
    user, group = context.get("runAsUser"), context.get("runAsGroup")
    if group is None:
        return "" if user is None else str(user)
    default = image_user.partition(":")[0] or "0"
    return f"{default if user is None else user}:{group}"


def _supplemental_groups(function: Function) -> list[str]:
    context = function.spec.security_context or {}
    fs_group = context.get("fsGroup")
    supplemental = context.get("supplementalGroups") or []
    return [str(group) for group in ([] if fs_group is None else [fs_group]) + list(supplemental)]


def stop_seconds(function: Function) -> int:
    """Return the seconds in which a container may finish its requests when it stops."""
    return math.ceil(max(DRAIN_SECONDS, termination_seconds(function))) + _STOP_MARGIN_SECONDS


def health_interval(function: Function) -> float:
    """Return `spec.platform.attributes.healthCheckInterval` in seconds, 0 if it is not set."""
    text = function.spec.platform.attributes.get("healthCheckInterval")
    if not text:
        return 0.0
    try:
        seconds = parse_duration(str(text))
    except ValueError as error:
        raise InputError(f"spec.platform.attributes.healthCheckInterval: {error}") from None
    return max(seconds, 0.001)


def network_names(function: Function) -> tuple[str, ...]:
    """Return the names in `spec.platform.attributes.network`: a list, or text with commas."""
    value = function.spec.platform.attributes.get("network")
    items = value if isinstance(value, list) else str(value or "").split(",")
    names = tuple(dict.fromkeys(str(item).strip() for item in items if str(item).strip()))
    exclusive = [name for name in (HOST_NETWORK, NO_NETWORK) if name in names]
    if exclusive and len(names) > 1:
        raise InputError(
            f'spec.platform.attributes.network: "{exclusive[0]}" cannot be combined with others'
        )
    return names


def processor_archive(revision: RevisionRecord) -> bytes:
    """Return the processor's configuration as a tar archive for the container's root."""
    settings = processor_settings(revision.function, revision.number)
    instance = f"{revision.number}-{revision.created}"
    add_group(settings, revision.function, GROUP_FOLDER, instance)
    settings["allowed_hosts"] = allowed_hosts(revision.function, revision.key.container_name)
    content = json.dumps(settings, indent=1).encode()
    member = tarfile.TarInfo(CONFIG_PATH)
    member.size, member.mode = len(content), 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class ContainerMounts:
    """Volumes as arguments of `docker run --volume` (`binds`) and in the API's form (`mounts`)."""

    binds: tuple[str, ...] = ()
    mounts: tuple[Raw, ...] = ()
    warnings: tuple[str, ...] = ()


def mounts_of(function: Function) -> ContainerMounts:
    """Return the mounts of a function, with warnings about volumes that the engine cannot have.

    Raises `InputError` for an invalid path.
    """
    binds: list[str] = []
    mounts: list[Raw] = []
    unsupported: list[str] = []
    for number, item in enumerate(function.spec.volumes):
        volume, mount = item.get("volume") or {}, item.get("volumeMount") or {}
        place = f"spec.volumes[{number}]"
        target = _absolute_path(mount.get("mountPath"), f"{place}.volumeMount.mountPath")
        if "hostPath" in volume:
            source = _host_path_mount(volume["hostPath"] or {}, mount, target, place)
            if isinstance(source, str):
                binds.append(source)
            else:
                mounts.append(source)
        elif "emptyDir" in volume:
            mounts.append(_scratch_mount(volume["emptyDir"] or {}, target, place))
        else:
            kind = next((key for key in volume if key != "name"), "nothing")
            unsupported.append(f"{mount.get('name') or number} ({kind})")
    text = "volumes of these kinds exist only in clusters and are left out: "
    warnings = (text + ", ".join(unsupported),) if unsupported else ()
    return ContainerMounts(tuple(binds), tuple(mounts), warnings)


def missing_path_warnings(function: Function) -> tuple[str, ...]:
    """Return warnings about paths that do not exist, for which the engine creates folders."""
    sources = (bind.partition(":")[0] for bind in mounts_of(function).binds)
    return tuple(
        f"there is no {source} on this machine: the engine creates an empty folder"
        for source in sources
        if not os.path.lexists(source)
    )


def _host_path_mount(host: Raw, mount: Raw, target: str, place: str) -> str | Raw:
    """Return a bind, which creates a missing folder, or a mount, which does not."""
    source = _absolute_path(host.get("path"), f"{place}.volume.hostPath.path")
    if inner := mount.get("subPath"):
        source = _join_below(source, str(inner), f"{place}.volumeMount.subPath")
    read_only = bool(mount.get("readOnly"))
    if host.get("type") in _MUST_EXIST or ":" in source + target:
        return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
    return f"{source}:{target}{':ro' if read_only else ''}"


def _scratch_mount(empty_dir: Raw, target: str, place: str) -> Raw:
    """Return an anonymous volume or, as for a larger /dev/shm, a tmpfs."""
    if empty_dir.get("medium") != "Memory":
        return {"Type": "volume", "Target": target}
    mount: Raw = {"Type": "tmpfs", "Target": target}
    if text := empty_dir.get("sizeLimit"):
        try:
            mount["TmpfsOptions"] = {"SizeBytes": int(parse_quantity(str(text)))}
        except ValueError as error:
            raise InputError(f"{place}.volume.emptyDir.sizeLimit: {error}") from None
    return mount


def _absolute_path(path: object, place: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise InputError(
            f"{place}: {path!r} is not an absolute path",
            hint="use `--volume /path/on/the/machine:/path/in/the/container`",
        )
    return posixpath.normpath(path)


def _join_below(folder: str, inner: str, place: str) -> str:
    path = posixpath.normpath(posixpath.join(folder, inner))
    if inner.startswith("/") or not f"{path}/".startswith(f"{folder.rstrip('/')}/"):
        raise InputError(f"{place}: {inner!r} leads out of {folder}")
    return path
