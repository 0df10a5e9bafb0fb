"""What the name of an image says of its registry."""

from __future__ import annotations

import ipaddress

DEFAULT_REGISTRY = "docker.io"


def registry_of(reference: str) -> str:
    """The registry of an image name: its first part, when that looks like a host.

    So does the engine read it (distribution/reference): it has a dot or a port, or is localhost.
    """
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return DEFAULT_REGISTRY


def is_loopback(registry: str) -> bool:
    """Whether the registry is on this machine, where Docker allows plain HTTP unasked."""
    host = registry.removeprefix("[").partition("]")[0] if registry.startswith("[") else registry
    host = host if registry.startswith("[") else host.rpartition(":")[0] or host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
