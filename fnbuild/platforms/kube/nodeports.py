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
_MOST_PORTS = 4
_IN_THE_RANGE = 32767
_BLOCKED = (
    "let this machine and CVAT's reach TCP 30000-32767 of the nodes (firewall, security group), or"
    " use `--http-trigger-service-type LoadBalancer` or an ingress; `fnbuild invoke` goes through"
    " the API server meanwhile"
)
_UNFORWARDED = (
    "is kube-proxy, or what does its work, well on every node (`kubectl get pods -n kube-system -o"
    " wide`)? If it is, " + _BLOCKED
)

Answer = Literal["open", "closed", "silent"]


def findings(
    nodes: Sequence[Raw], services: Sequence[Raw], endpoints: Sequence[Raw] | None = None
) -> Iterator[Finding]:
    """One finding for a function's node port when there is one; else for the way to the nodes.

    `services` and `endpoints` are those of functions; with None nobody knows which have ready pods.
    Without any, a port on which nobody listens tells as much of the way: a node that refuses the
    connection has been reached.
    """
    hosts = [host for node in nodes[:_MOST_NODES] for host in addresses(node)]
    if not hosts:
        text = "no node tells an address by which it could be reached"
        yield Finding(_AREA, "skipped", text)
        return
    serving = [one for one in services if endpoints is None or _name(one) in _ready(endpoints)]
    ports = [(_name(one), port) for one in serving for port in _ports(one)][:_MOST_PORTS]
    for name, port in ports:
        reached = _asked(hosts, port)
        where = [host for host, answer in reached.items() if answer == "open"]
        if where:
            text = f"node port {port} of {name} answers at {', '.join(where)}"
            yield Finding(_AREA, "ok", text)
            return
    reached = _asked(hosts, _IN_THE_RANGE)
    where = [host for host, answer in reached.items() if answer != "silent"]
    if not where:
        text = f"node ports do not answer from here: {', '.join(reached)} is silent"
        yield Finding(_AREA, "warning", text, _BLOCKED)
    elif ports and endpoints is not None:
        name, port = ports[0]
        text = f"node port {port} of {name} does not answer, and its pods are ready"
        yield Finding(_AREA, "warning", f"{text}: asked at {', '.join(hosts)}", _UNFORWARDED)
    else:
        text = f"{', '.join(where)} can be reached; there is no function to be called yet"
        if services:
            text = f"{', '.join(where)} can be reached; no function there answers now"
        yield Finding(_AREA, "ok", text)


def _name(one: Raw) -> str:
    return str(one["metadata"]["name"])


def _ready(endpoints: Sequence[Raw]) -> set[str]:
    """The Services that have pods to send requests to: `addresses` are those of ready ones."""
    return {
        _name(one)
        for one in endpoints
        if any(some.get("addresses") for some in one.get("subsets") or [])
    }


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
