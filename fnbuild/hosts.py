"""Names and addresses of hosts."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is that of this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bracketed(host: str) -> str:
    """Return the host as in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def join_path(base: str, path: str) -> str:
    """Return the path of a request to a function at `base`; without a path, `base` as it is."""
    path = path.lstrip("/")
    return base if base.strip("/") and not path else f"{base.rstrip('/')}/{path}"
