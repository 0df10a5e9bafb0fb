"""Whether this machine reaches functions by the node ports of their Services."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from fnbuild.platforms import Finding
from fnbuild.platforms.kube.nodes import addresses
from fnbuild.spec.types import Raw

_AREA = "node-ports"
_SECONDS = 1.5
_MOST_NODES = 8
_IN_THE_RANGE = 32767
_BLOCKED = (
    "let this machine and CVAT's reach TCP 30000-32767 of the nodes (firewall, security group), or"
    " use `--http-trigger-service-type LoadBalancer` or an ingress; `fnbuild invoke` goes through"
    " the API server meanwhile"
)

Answer = Literal["open", "closed", "silent"]


def findings(nodes: Sequence[Raw], services: Sequence[Raw]) -> Iterator[Finding]:
    """One finding for a function's node port when there is one; else for the way to the nodes.

    `services` are those of functions. Without any, a port on which nobody listens tells as much of
    the way: a node that refuses the connection has been reached.
    """
    hosts = [host for node in nodes[:_MOST_NODES] for host in addresses(node)]
    if not hosts:
        text = "no node tells an address by which it could be reached"
        yield Finding(_AREA, "skipped", text)
        return
    for service in services:
        for port in _ports(service):
            reached = _asked(hosts, port)
            where = [host for host, answer in reached.items() if answer == "open"]
            if where:
                name = service["metadata"]["name"]
                text = f"node port {port} of {name} answers at {', '.join(where)}"
                yield Finding(_AREA, "ok", text)
                return
    reached = _asked(hosts, _IN_THE_RANGE)
    where = [host for host, answer in reached.items() if answer != "silent"]
    if where:
        text = f"{', '.join(where)} can be reached; there is no function to be called yet"
        if services:
            text = f"{', '.join(where)} can be reached; no function there answers now"
        yield Finding(_AREA, "ok", text)
    else:
        text = f"node ports do not answer from here: {', '.join(reached)} is silent"
        yield Finding(_AREA, "warning", text, _BLOCKED)


def _ports(service: Raw) -> list[int]:
    ports = (service.get("spec") or {}).get("ports") or []
    return [int(port["nodePort"]) for port in ports if port.get("nodePort")]


def _asked(hosts: Sequence[str], port: int) -> dict[str, Answer]:
    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = pool.map(lambda host: knock(host, port), hosts)
        return dict(zip(hosts, answers, strict=True))


def knock(host: str, port: int) -> Answer:
    """Whether somebody listens there, nobody does, or nothing comes back."""
    try:
        with socket.create_connection((host, port), timeout=_SECONDS):
            return "open"
    except ConnectionRefusedError:
        return "closed"
    except OSError:
        return "silent"
