"""Addresses and ports of this machine: where functions may listen, and who has a port already."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from fnbuild.errors import UsageError

LOOPBACK = "127.0.0.1"
_BRIDGE = "docker0"
_SIOCGIFADDR = 0x8915
_LISTENING = "0A"


def docker_gateway() -> str | None:
    """The address by which containers reach this machine: what `host.docker.internal` means."""
    return bridge_gateway(_BRIDGE)


def listen_hosts(
    listen: str, gateway: Callable[[], str | None] = docker_gateway
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses that `listen` means, and warnings. Loopback is always among them.

    `listen` is a comma-separated list of `loopback`, `docker` (the gateway of Docker's default
    bridge, which containers reach as `host.docker.internal`) and IPv4 addresses.
    """
    hosts, warnings = [LOOPBACK], []
    for word in (part.strip() for part in listen.split(",")):
        if word in ("", "loopback", LOOPBACK):
            continue
        if word == "docker":
            address = gateway()
            if address is None:
                warnings.append(
                    f"there is no interface {_BRIDGE}, so containers cannot reach the function yet;"
                    " deploy it again once Docker runs"
                )
            else:
                hosts.append(address)
            continue
        hosts.append(_parse_address(word))
    if "0.0.0.0" in hosts:  # noqa: S104 (asked for by name)
        hosts = ["0.0.0.0"]  # noqa: S104 (it includes the others)
    return tuple(dict.fromkeys(hosts)), tuple(warnings)


def _parse_address(word: str) -> str:
    try:
        return str(ipaddress.IPv4Address(word))
    except ValueError:
        raise UsageError(
            f'"{word}" is no place to listen on',
            hint="a comma-separated list of loopback, docker and IPv4 addresses",
        ) from None


def bridge_gateway(interface: str) -> str | None:
    """The IPv4 address of the interface, or None when it does not exist."""
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def ephemeral_port_start() -> int:
    """The lowest port that the kernel gives to outgoing connections."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        return int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def port_owner(port: int) -> str | None:
    """Who listens on the port, as `name (pid N)`; None when /proc does not tell this user."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and wanted & set(_open_files(process)):
            return f"{_process_name(process)} (pid {process.name})"
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                part = line.split()
                if part[3] == _LISTENING and int(part[1].rpartition(":")[2], 16) == port:
                    found.add(part[9])
    return found


def _open_files(process: Path) -> Iterator[str]:
    # Processes end while they are looked at, and other users' are closed to this one.
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(link)


def _process_name(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "comm").read_text().strip()
    return "a process"
