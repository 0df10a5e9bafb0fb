"""Hosts and origins of requests: protection of servers on loopback against pages in browsers.

A page of another site reaches them in two ways. Its name may lead to this machine (DNS rebinding):
then the Host header has that name. Or it sends a request to the server's own name: then the browser
adds the page's Origin.
"""

import ipaddress
import socket
from typing import Iterable, Optional
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOCAL_SUFFIXES = (".localhost", ".svc", ".svc.cluster.local")
_LOCAL_NAMES = ("localhost", "host.docker.internal", "host.containers.internal")


class AllowedHosts:
    """The names by which clients may call a server: those of this machine, and `names`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        own = socket.gethostname().lower()
        self._names = {*_LOCAL_NAMES, own, own + ".local", *(name.lower() for name in names)}

    def allow(self, host: str) -> bool:
        """Return True if a Host header has an allowed name, or an address."""
        name = host_name(host)
        # A name of one label belongs to the local network: no public site has such a name.
        return name is not None and (
            name in self._names
            or name.endswith(_LOCAL_SUFFIXES)
            or "." not in name
            or _is_address(name)
        )


def host_name(host: str) -> Optional[str]:
    """Return the name in a Host header in lower case, None if the header is invalid."""
    try:
        parts = urlsplit("//" + host)
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or "@" in host or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def is_same_origin(origin: str, host: str) -> bool:
    """Return True if a page of `origin` is from the server with this Host header."""
    try:
        page = urlsplit(origin)
        server = urlsplit("%s://%s" % (page.scheme, host))
        port = _DEFAULT_PORTS.get(page.scheme)
        return port is not None and (
            (page.hostname, page.port or port) == (server.hostname, server.port or port)
        )
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
