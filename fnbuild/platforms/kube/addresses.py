"""Where a function answers: in the cluster, on its nodes, at load balancers and Ingresses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.connection import is_loopback
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.kube import asking, inventory
from fnbuild.platforms.kube.inventory import Known
from fnbuild.spec.types import Raw

PORT = 8080

_GIVEN = "NUCTL_EXTERNAL_IP_ADDRESSES"
_MOST_HOSTS = 3


def hosts(cluster: Cluster, known: list[Known], pods: Iterable[Raw] = ()) -> tuple[str, ...]:
    """The addresses at which node ports answer; none when no function has one.

    What NUCTL_EXTERNAL_IP_ADDRESSES lists, as for nuctl; else nodes, by an external address where
    they have one; where it is forbidden to see nodes, those of which pods tell, these or else any.
    Three of them are enough: every node answers for every function.
    """
    if given := [one.strip() for one in os.environ.get(_GIVEN, "").split(",") if one.strip()]:
        return tuple(given)
    if not any(node_port(one.service) for one in known):
        return ()
    nodes = asking.nodes_of(cluster)
    if nodes is None:
        return _without_nodes(cluster, list(pods) or _pods(cluster, known[0].key.namespace))
    ready = [node for node in nodes if _is_ready(node)]
    for kind in ("ExternalIP", "InternalIP"):
        if found := [one for node in ready for one in _addresses(node, kind)]:
            return tuple(found[:_MOST_HOSTS])
    return ()


def _without_nodes(cluster: Cluster, pods: Iterable[Raw]) -> tuple[str, ...]:
    """The nodes that the pods are on, and this machine where the API server is on it. Any other
    host of the API server may be a load balancer's, which has no node ports.
    """
    found = [str((pod.get("status") or {}).get("hostIP") or "") for pod in pods]
    nodes = list(dict.fromkeys(filter(None, found)))[:_MOST_HOSTS]
    host = urlsplit(cluster.server).hostname or ""
    here = not cluster.in_cluster and is_loopback(host)
    return tuple(dict.fromkeys([*nodes, host] if here else nodes))


def _pods(cluster: Cluster, namespace: str) -> list[Raw]:
    try:
        return cluster.list(kinds.POD, namespace, labels=inventory.OF_FUNCTIONS)
    except ForbiddenError:
        return []


def _is_ready(node: Raw) -> bool:
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in (node.get("status") or {}).get("conditions") or []
    )


def _addresses(node: Raw, kind: str) -> Iterator[str]:
    for one in (node.get("status") or {}).get("addresses") or []:
        if one.get("type") == kind:
            yield str(one["address"])


def node_port(service: Raw | None) -> int:
    """The port on every node, 0 for none."""
    return int(_http(service).get("nodePort") or 0)


def _http(service: Raw | None) -> Raw:
    """The Service's port of the function; Nuclio calls it `http`."""
    ports: list[Raw] = ((service or {}).get("spec") or {}).get("ports") or []
    named = [one for one in ports if one.get("name") == "http" or one.get("port") == PORT]
    return named[0] if named else {}


def inside(known: Known) -> tuple[str, ...]:
    """Where pods of the cluster find it."""
    if known.service is None or known.deployment is None:
        return ()
    return (f"{known.key.object}.{known.key.namespace}.svc.cluster.local:{PORT}",)


def outside(known: Known, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Where others find it: at node ports, load balancers and Ingresses, in this order."""
    port = node_port(known.service)
    nodes = [f"{_bracketed(host)}:{port}" for host in hosts] if port else []
    return tuple(dict.fromkeys([*nodes, *_balanced(known.service), *_ingresses(known.ingress)]))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _balanced(service: Raw | None) -> Iterator[str]:
    for host in _balancers(service):
        yield f"{_bracketed(host)}:{_http(service).get('port', PORT)}"


def _balancers(made: Raw | None) -> Iterator[str]:
    status: Raw = ((made or {}).get("status") or {}).get("loadBalancer") or {}
    for one in status.get("ingress") or []:
        if host := one.get("ip") or one.get("hostname"):
            yield str(host)


def _ingresses(ingress: Raw | None) -> Iterator[str]:
    spec: Raw = (ingress or {}).get("spec") or {}
    secured = {host for one in spec.get("tls") or [] for host in one.get("hosts") or []}
    for rule in spec.get("rules") or []:
        # A rule without a host is for every name of the controller's own address.
        names = [rule["host"]] if rule.get("host") else list(_balancers(ingress))
        for path in (rule.get("http") or {}).get("paths") or []:
            for name in names:
                scheme = "https://" if name in secured else ""
                yield f"{scheme}{name}{(path.get('path') or '').rstrip('/')}"
