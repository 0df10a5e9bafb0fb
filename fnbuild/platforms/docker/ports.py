"""The port and the addresses on which a container is published.

The port is always explicit and stays the same. A port that the engine chooses changes at every
start of the container, while CVAT keeps calling the old one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
from collections.abc import Collection, Iterator

from fnbuild.errors import ConflictError, InputError, PlatformError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.addresses import (
    LOOPBACK,
    docker_gateway,
    ephemeral_port_start,
    listen_hosts,
    port_owner,
)
from fnbuild.platforms.docker.container_config import (
    HOST_NETWORK,
    HTTP_PORT,
    NO_NETWORK,
    network_names,
)
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import (
    FUNCTION_LABEL,
    GRPC_PORT_LABEL,
    NAMESPACE_LABEL,
    PORT_LABEL,
    DockerKey,
    int_label,
)
from fnbuild.platforms.settings import listen_setting, requested_port

_DEFAULT_LISTEN = "loopback,docker"
# Kubernetes on the same machine uses the ports above as node ports.
_MIN_PORT, _MAX_PORT = 20000, 30000
_DISABLED_ANNOTATION = "nuclio.io/disable-port-publishing"


def is_published(function: Function) -> bool:
    """Return True if the function has a published port."""
    trigger = function.http_trigger()
    if trigger is None or {HOST_NETWORK, NO_NETWORK} & set(network_names(function)):
        return False
    disabled = trigger[1].attributes.get("disablePortPublishing")
    return not (disabled is True or trigger[1].annotations.get(_DISABLED_ANNOTATION) == "true")


def planned_addresses(
    engine: Engine, function: Function
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses on which the port is published, and warnings.

    The default of `spec.platform.attributes.listen` is the loopback and the gateway of the default
    bridge, which is `host.docker.internal` in containers.
    """
    setting = listen_setting(function, "")
    hosts, warnings = listen_hosts(setting or _DEFAULT_LISTEN, lambda: gateway_address(engine))
    absent = [host for host in hosts if engine.is_local and not _is_local_address(host)]
    if absent:
        raise InputError(
            f"this machine has no address {', '.join(absent)} to listen on",
            hint="use loopback, docker or addresses of this machine with `--listen`",
        )
    # The default needs no gateway in Docker Desktop: `host.docker.internal` is the loopback there.
    return hosts, warnings if setting else ()


def gateway_address(engine: Engine) -> str | None:
    """Return the address at which containers reach the machine; None if no port can be there."""
    if engine.is_docker_desktop:
        return None
    reported = _reported_gateway(engine)
    if not engine.is_local:
        return reported
    # The bridge of a rootless engine is in another network namespace, and a port can only be
    # published on an address of this machine.
    gateways = (reported, docker_gateway())
    return next((address for address in gateways if address and _is_local_address(address)), None)


def _reported_gateway(engine: Engine) -> str | None:
    bridge = engine.networks().get("bridge", {})
    configs = (bridge.get("IPAM") or {}).get("Config") or []
    gateway = next((config["Gateway"] for config in configs if config.get("Gateway")), None)
    if gateway is None and configs:
        # A new engine does not report the gateway, the first address, before its first restart.
        with contextlib.suppress(KeyError, ValueError):
            gateway = str(next(ipaddress.IPv4Network(configs[0]["Subnet"]).hosts()))
    return gateway


def _is_local_address(address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((address, 0))
        return True
    return False


def choose_port(
    engine: Engine, key: DockerKey, function: Function, addresses: Collection[str], current: int
) -> int:
    """Return the port for the function; `current` is its current or last port, or 0.

    Raises `ConflictError` if the port is in use.
    """
    port = requested_port(function) or current
    taken = {number: holder for number, holder in _used_ports(engine) if holder != str(key)}
    if not port:
        return _free_port(engine, addresses, taken)
    if port in taken:
        raise ConflictError(
            f"port {port} belongs to {taken[port]}",
            hint="set another port in spec.triggers.<name>.attributes.port, or delete that one",
        )
    if port != current:
        _check_free(engine, addresses, port)
    return port


def choose_grpc_port(
    engine: Engine, key: DockerKey, addresses: Collection[str], port: int, current: int
) -> int:
    """Return the gRPC port of a function on `port`; it is `current` unless that is 0 or taken."""
    taken = {number for number, holder in _used_ports(engine) if holder != str(key)}
    if current and current != port and current not in taken:
        return current
    return _free_port(engine, addresses, {*taken, port})


def _check_free(engine: Engine, addresses: Collection[str], port: int) -> None:
    if not is_free(engine, addresses, port):
        holder = port_owner(port)
        raise ConflictError(
            f"port {port} is taken{f' by {holder}' if holder else ''}",
            hint="stop that program, or set another port in spec.triggers.<name>.attributes.port",
        )


def _free_port(engine: Engine, addresses: Collection[str], taken: Collection[int]) -> int:
    highest = max(_MIN_PORT + 1000, min(_MAX_PORT, ephemeral_port_start()))
    for port in random.sample(range(_MIN_PORT, highest), 200):
        if port not in taken and is_free(engine, addresses, port):
            return port
    raise PlatformError(f"no free port was found from {_MIN_PORT} to {highest}")


def is_free(engine: Engine, addresses: Collection[str], port: int) -> bool:
    """Return True if no program of this machine has the port, or if the engine is elsewhere."""
    return not engine.is_local or _can_bind(addresses, port)


def _can_bind(addresses: Collection[str], port: int) -> bool:
    with contextlib.ExitStack() as stack:
        for address in addresses:
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def _used_ports(engine: Engine) -> Iterator[tuple[int, str]]:
    """Yield the ports of all containers, running or not, and the name of the holder."""
    for listed in engine.containers():
        labels = listed.get("Labels") or {}
        function = labels.get(FUNCTION_LABEL)
        if function:
            holder = f"{labels.get(NAMESPACE_LABEL)}/{function}"
        else:
            holder = f"container {listed_container_name(listed)}"
        for label in (PORT_LABEL, GRPC_PORT_LABEL):
            if (port := int_label(labels, label)) > 0:
                yield port, holder
        for entry in listed.get("Ports") or []:
            if entry.get("PublicPort"):
                yield int(entry["PublicPort"]), holder


def listed_container_name(listed: Raw) -> str:
    """Return the name of a container from its list entry."""
    names = listed.get("Names") or [""]
    return str(names[0]).removeprefix("/")


def published_addresses(listed: Raw) -> tuple[tuple[str, int], ...]:
    """Return the addresses and ports on which a container is published, from its list entry."""
    return tuple(
        (str(entry.get("IP") or LOOPBACK), int(entry["PublicPort"]))
        for entry in listed.get("Ports") or []
        if entry.get("PrivatePort") == HTTP_PORT and entry.get("PublicPort")
    )
