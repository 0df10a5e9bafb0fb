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
    NAMESPACE_LABEL,
    PORT_LABEL,
    DockerKey,
    int_label,
)
from fnbuild.platforms.settings import listen_setting, requested_port

_DEFAULT_LISTEN = "loopback,docker"
# Above are the node ports of a Kubernetes on the same machine.
_MIN_PORT, _MAX_PORT = 20000, 30000
_DISABLED_ANNOTATION = "nuclio.io/disable-port-publishing"


def is_published(function: Function) -> bool:
    """Whether the function has a port of the machine at all."""
    trigger = function.http_trigger()
    if trigger is None or {HOST_NETWORK, NO_NETWORK} & set(network_names(function)):
        return False
    off = trigger[1].attributes.get("disablePortPublishing")
    return not (off is True or trigger[1].annotations.get(_DISABLED_ANNOTATION) == "true")


def publish_addresses(
    engine: Engine, function: Function
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses that the port is published on, and warnings.

    Loopback and the gateway of the default bridge, which `host.docker.internal` means inside
    containers, unless `spec.platform.attributes.listen` says otherwise.
    """
    words = listen_setting(function, "")
    found, warnings = listen_hosts(words or _DEFAULT_LISTEN, lambda: gateway_address(engine))
    absent = [one for one in found if engine.local and not _is_local_address(one)]
    if absent:
        raise InputError(
            f"this machine has no address {', '.join(absent)} to listen on",
            hint="`--listen` takes loopback, docker and addresses that the machine has",
        )
    # In Docker Desktop's virtual machine, `host.docker.internal` leads to the machine's loopback.
    return found, warnings if words else ()


def gateway_address(engine: Engine) -> str | None:
    """The address of the machine that containers reach; None where no port can be there."""
    if engine.desktop:
        return None
    told = _reported_gateway(engine)
    if not engine.local:
        return told
    # An engine without root has its bridge elsewhere: only an address that this machine has can be
    # published on.
    return next((one for one in (told, docker_gateway()) if one and _is_local_address(one)), None)


def _reported_gateway(engine: Engine) -> str | None:
    bridge = engine.networks().get("bridge", {})
    configs = (bridge.get("IPAM") or {}).get("Config") or []
    told = next((one["Gateway"] for one in configs if one.get("Gateway")), None)
    if told is None and configs:
        # A new engine tells no gateway before its first restart; it has taken the first address.
        with contextlib.suppress(KeyError, ValueError):
            told = str(next(ipaddress.IPv4Network(configs[0]["Subnet"]).hosts()))
    return told


def _is_local_address(address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((address, 0))
        return True
    return False


def choose_port(
    engine: Engine, key: DockerKey, function: Function, addresses: Collection[str], known: int
) -> int:
    """The port for the function; `known` is the one that it has had, 0 for none.

    Raises `ConflictError` when somebody else has it.
    """
    port = requested_port(function) or known
    taken = {number: who for number, who in _used_ports(engine) if who != str(key)}
    if not port:
        return _free_port(engine, addresses, taken)
    if port in taken:
        raise ConflictError(
            f"port {port} belongs to {taken[port]}",
            hint="choose another port (spec.triggers.<name>.attributes.port), or delete that one",
        )
    if port != known:
        _check_free(engine, addresses, port)
    return port


def _check_free(engine: Engine, addresses: Collection[str], port: int) -> None:
    if engine.local and not _can_bind(addresses, port):
        holder = port_owner(port)
        raise ConflictError(
            f"port {port} is taken{f' by {holder}' if holder else ''}",
            hint="end that program, or set another port: spec.triggers.<name>.attributes.port",
        )


def _free_port(engine: Engine, addresses: Collection[str], taken: Collection[int]) -> int:
    highest = max(_MIN_PORT + 1000, min(_MAX_PORT, ephemeral_port_start()))
    for port in random.sample(range(_MIN_PORT, highest), 200):
        if port not in taken and (not engine.local or _can_bind(addresses, port)):
            return port
    raise PlatformError(f"found no free port from {_MIN_PORT} to {highest}")


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
    """Every port of the engine's containers, those that do not run included, and whose it is."""
    for one in engine.containers():
        labels = one.get("Labels") or {}
        name = labels.get(FUNCTION_LABEL)
        who = (
            f"{labels.get(NAMESPACE_LABEL)}/{name}" if name else f"container {container_name(one)}"
        )
        if (port := int_label(labels, PORT_LABEL)) > 0:
            yield port, who
        for entry in one.get("Ports") or []:
            if entry.get("PublicPort"):
                yield int(entry["PublicPort"]), who


def container_name(listed: Raw) -> str:
    """The name of a container in the engine's list."""
    names = listed.get("Names") or [""]
    return str(names[0]).removeprefix("/")


def published_addresses(listed: Raw) -> tuple[tuple[str, int], ...]:
    """(address, port) of the machine where a container of the engine's list answers now."""
    return tuple(
        (str(entry.get("IP") or LOOPBACK), int(entry["PublicPort"]))
        for entry in listed.get("Ports") or []
        if entry.get("PrivatePort") == HTTP_PORT and entry.get("PublicPort")
    )
