"""Where this process is, seen from an engine: on its machine, or in one of its own containers.

A dashboard in a container has the engine's socket, as on the machine, but not the machine's
addresses and processes; functions on networks of its own answer it directly.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fnbuild.spec.types import Raw

_MOUNTS = Path("/proc/self/mountinfo")
# The engine puts files of its own there, from a folder that is named after the container.
_GIVEN = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
_FOLDER = re.compile(r"/(?:containers|overlay-containers)/([0-9a-f]{64})/")
_HOST = "host"


def container_id(mounts: str | None = None) -> str:
    """The id of the container that this process runs in, "" on a machine; `mounts` are those of
    another process, as /proc has them.
    """
    try:
        text = _MOUNTS.read_text() if mounts is None else mounts
    except OSError:
        return ""
    for line in text.splitlines():
        # Behind the numbers stand the place within its file system, and where it is mounted.
        words = line.split()
        if len(words) > 4 and words[4] in _GIVEN and (found := _FOLDER.search(words[3])):
            return found[1]
    return ""


def in_pod() -> bool:
    """Whether this is in a pod, whose addresses are no machine's."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def reaches(home: Raw, address: str) -> bool:
    """Whether a container gets to an address of another one: on a network that both have."""
    networks: Raw = (home.get("NetworkSettings") or {}).get("Networks") or {}
    return _HOST in networks or any(_has(one, address) for one in networks.values())


def _has(network: Raw, address: str) -> bool:
    try:
        own = ipaddress.ip_interface(f"{network['IPAddress']}/{network['IPPrefixLen']}")
        return ipaddress.ip_address(address) in own.network
    except (KeyError, ValueError):
        return False


def way(home: Raw, internal: Iterable[str], external: Iterable[str]) -> str:
    """The first of a function's addresses (host:port) that a container gets to; "" for none.

    A port of the machine is one, unless it is only on the machine's loopback.
    """
    near = [one for one in internal if reaches(home, _host_of(one))]
    far = [one for one in external if not _is_loopback(_host_of(one))]
    return next(iter([*near, *far]), "")


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
