"""Addresses and ports of this machine: listen addresses of functions, and owners of used ports."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from fnbuild.errors import UsageError

LOOPBACK = "127.0.0.1"
_BRIDGE = "docker0"
_SIOCGIFADDR = 0x8915
_LISTENING = "0A"
_LOWEST_PORT = 20000


def docker_gateway() -> str | None:
    """Return the address of this machine for containers, known as `host.docker.internal`."""
    return bridge_gateway(_BRIDGE)


def listen_hosts(
    listen: str, gateway: Callable[[], str | None] = docker_gateway
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses to listen on, including loopback, and warnings.

    `listen` is a comma-separated list of `loopback`, `docker` (the gateway of Docker's default
    bridge, which containers reach as `host.docker.internal`) and IPv4 addresses.
    """
    hosts, warnings = [LOOPBACK], []
    for item in (part.strip() for part in listen.split(",")):
        if item in ("", "loopback", LOOPBACK):
            continue
        if item == "docker":
            address = gateway()
            if address is None:
                warnings.append(
                    f"there is no interface {_BRIDGE}, so containers cannot reach the function yet;"
                    " deploy it again once Docker runs"
                )
            else:
                hosts.append(address)
            continue
        hosts.append(_parse_address(item))
    if "0.0.0.0" in hosts:  # noqa: S104 (requested explicitly)
        hosts = ["0.0.0.0"]  # noqa: S104 (it includes the others)
    return tuple(dict.fromkeys(hosts)), tuple(warnings)


def _parse_address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise UsageError(
            f'"{text}" is not an address to listen on',
            hint="a comma-separated list of loopback, docker and IPv4 addresses",
        ) from None


def bridge_gateway(interface: str) -> str | None:
    """Return the IPv4 address of the interface, or None if it does not exist."""
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def ephemeral_port_start() -> int:
    """Return the lowest port that the kernel uses for outgoing connections."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        return int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def candidate_ports() -> list[int]:
    """Return some ports in random order, outside the range of outgoing connections."""
    highest = max(_LOWEST_PORT + 1000, ephemeral_port_start())
    return random.sample(range(_LOWEST_PORT, highest), 200)


def port_owner(port: int) -> str | None:
    """Return the process that listens on the port as `name (pid N)`; None if it is not visible."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and sockets & set(_open_files(process)):
            return f"{_process_name(process)} (pid {process.name})"
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _open_files(process: Path) -> Iterator[str]:
    # Processes may end meanwhile, and those of other users are not readable.
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(link)


def _process_name(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "comm").read_text().strip()
    return "a process"
