"""Endpoints of a function: its addresses, and the one that this machine reaches."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from fnbuild.function.types import Raw
from fnbuild.platforms import Deployment
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.credentials import is_loopback
from fnbuild.platforms.kubeclient.errors import ForbiddenError
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.platforms.kubernetes import inventory, status
from fnbuild.platforms.kubernetes.diagnosis import queries
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.runtime.ids import INSTANCE_HEADER, instance_id

SERVICE_PORT = 8080

_EXTERNAL_ADDRESSES_VARIABLE = "NUCTL_EXTERNAL_IP_ADDRESSES"
_MAX_HOSTS = 3


def node_hosts(
    cluster: Cluster, known: list[FunctionObjects], pods: Iterable[Raw] = ()
) -> tuple[str, ...]:
    """The addresses at which node ports answer; none when no function has one.

    What NUCTL_EXTERNAL_IP_ADDRESSES lists, as for nuctl; else nodes, by an external address where
    they have one; where it is forbidden to see nodes, those of which pods tell, these or else any.
    Three of them are enough: every node answers for every function.
    """
    if given := [
        one.strip()
        for one in os.environ.get(_EXTERNAL_ADDRESSES_VARIABLE, "").split(",")
        if one.strip()
    ]:
        return tuple(given)
    if not any(node_port(one.service) for one in known):
        return ()
    nodes = queries.list_nodes(cluster)
    if nodes is None:
        return _hosts_of_pods(
            cluster, list(pods) or _list_pods_if_allowed(cluster, known[0].key.namespace)
        )
    ready = [node for node in nodes if _is_node_ready(node)]
    for kind in ("ExternalIP", "InternalIP"):
        if found := [one for node in ready for one in _addresses_of_type(node, kind)]:
            return tuple(found[:_MAX_HOSTS])
    return ()


def _hosts_of_pods(cluster: Cluster, pods: Iterable[Raw]) -> tuple[str, ...]:
    """The nodes that the pods are on, and this machine where the API server is on it. Any other
    host of the API server may be a load balancer's, which has no node ports.
    """
    found = [str((pod.get("status") or {}).get("hostIP") or "") for pod in pods]
    nodes = list(dict.fromkeys(filter(None, found)))[:_MAX_HOSTS]
    host = urlsplit(cluster.server).hostname or ""
    here = not cluster.in_cluster and is_loopback(host)
    return tuple(dict.fromkeys([*nodes, host] if here else nodes))


def _list_pods_if_allowed(cluster: Cluster, namespace: str) -> list[Raw]:
    try:
        return cluster.list(kinds.POD, namespace, labels=inventory.FUNCTIONS_SELECTOR)
    except ForbiddenError:
        return []


def _is_node_ready(node: Raw) -> bool:
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in (node.get("status") or {}).get("conditions") or []
    )


def _addresses_of_type(node: Raw, kind: str) -> Iterator[str]:
    for one in (node.get("status") or {}).get("addresses") or []:
        if one.get("type") == kind:
            yield str(one["address"])


def node_port(service: Raw | None) -> int:
    """The port on every node, 0 for none."""
    return int(_http_port(service).get("nodePort") or 0)


def _http_port(service: Raw | None) -> Raw:
    """The Service's port of the function; Nuclio calls it `http`."""
    ports: list[Raw] = ((service or {}).get("spec") or {}).get("ports") or []
    named = [one for one in ports if one.get("name") == "http" or one.get("port") == SERVICE_PORT]
    return named[0] if named else {}


def internal_addresses(known: FunctionObjects) -> tuple[str, ...]:
    """Where pods of the cluster find it."""
    if known.service is None or known.deployment is None:
        return ()
    return (f"{known.key.object}.{known.key.namespace}.svc.cluster.local:{SERVICE_PORT}",)


def external_addresses(known: FunctionObjects, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Where others find it: at node ports, load balancers and Ingresses, in this order."""
    port = node_port(known.service)
    nodes = [f"{_bracketed(host)}:{port}" for host in hosts] if port else []
    return tuple(
        dict.fromkeys(
            [*nodes, *_balancer_addresses(known.service), *_ingress_addresses(known.ingress)]
        )
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _balancer_addresses(service: Raw | None) -> Iterator[str]:
    for host in _balancer_hosts(service):
        yield f"{_bracketed(host)}:{_http_port(service).get('port', SERVICE_PORT)}"


def _balancer_hosts(made: Raw | None) -> Iterator[str]:
    status: Raw = ((made or {}).get("status") or {}).get("loadBalancer") or {}
    for one in status.get("ingress") or []:
        if host := one.get("ip") or one.get("hostname"):
            yield str(host)


def _ingress_addresses(ingress: Raw | None) -> Iterator[str]:
    spec: Raw = (ingress or {}).get("spec") or {}
    secured = {host for one in spec.get("tls") or [] for host in one.get("hosts") or []}
    for rule in spec.get("rules") or []:
        # A rule without a host is for every name of the controller's own address.
        names = [rule["host"]] if rule.get("host") else list(_balancer_hosts(ingress))
        for path in (rule.get("http") or {}).get("paths") or []:
            for name in names:
                scheme = "https://" if name in secured else ""
                yield f"{scheme}{name}{(path.get('path') or '').rstrip('/')}"


_CONNECT_SECONDS = 1.0
_HEALTH_PATH = "/__internal/health"
# How long nodes take at most to send requests to new pods alone, and how many good answers in a
# row tell that they do: of two pods each gets every second connection, by chance.
_SWITCH_SECONDS = 5.0
_REQUIRED_RESPONSES = 10
_PAUSE_SECONDS = 0.05


@contextmanager
def reach_function(cluster: Cluster, deployment: Deployment) -> Iterator[str]:
    """A URL of the function that works from here while the block lasts; "" when nothing serves."""
    if address := _healthy_address(cluster, deployment):
        yield f"http://{address}"
        return
    metadata = deployment.function.metadata
    key = KubernetesKey(metadata.namespace, metadata.name)
    serving = [
        pod["metadata"]
        for pod in inventory.list_pods(cluster, key)
        if status.is_pod_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    if not serving:
        yield ""
        return
    newest = max(serving, key=lambda pod: str(pod["creationTimestamp"]))
    with forward_port(cluster, key.namespace, newest["name"]) as url:
        yield url


def wait_for_new_pods(cluster: Cluster, deployment: Deployment) -> None:
    """Wait until the node port leads to the newest pods alone, as far as can be seen from here.

    The cluster calls a pod ready a moment before its nodes send it requests, and they go on a
    moment with one that ends: who asks right behind a deploy would be answered by the old one, or
    by nobody.
    """
    pods = deployment.details.get("pods") or []
    newest = {
        instance_id(pod["name"]) for pod in pods if pod["current"] and pod["state"] == "Ready"
    }
    address = _connectable_address(cluster, deployment) if newest else ""
    deadline = time.monotonic() + _SWITCH_SECONDS
    good = 0
    while address and good < _REQUIRED_RESPONSES and time.monotonic() < deadline:
        good = good + 1 if _is_new_pod(newest, address) else 0
        if not good:
            time.sleep(_PAUSE_SECONDS)


def _healthy_address(cluster: Cluster, deployment: Deployment) -> str:
    """The first address at which a function answers; "" for none."""
    return _first_matching(
        _candidate_addresses(cluster, deployment),
        lambda one: _query_health(one).status == HTTPStatus.OK,
    )


def _connectable_address(cluster: Cluster, deployment: Deployment) -> str:
    """The first address that takes connections, or refuses them, for it may take one in a moment;
    "" for none.
    """
    return _first_matching(_candidate_addresses(cluster, deployment), _is_connectable)


def _candidate_addresses(cluster: Cluster, deployment: Deployment) -> list[str]:
    """In the order in which they are to be used: in the cluster its own name for the function
    first.
    """
    inside = deployment.internal_urls if cluster.in_cluster else ()
    some = (*inside, *deployment.external_urls)
    return [one for one in some if one.rpartition(":")[2].isdecimal()]


def _first_matching(addresses: list[str], right: Callable[[str], bool]) -> str:
    """All are asked at the same time."""
    if not addresses:
        return ""
    with ThreadPoolExecutor(len(addresses)) as pool:
        found = list(pool.map(right, addresses))
    return next((one for one, so in zip(addresses, found, strict=True) if so), "")


def _is_connectable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _HealthResponse:
    """The answer to a question for the health; `status` 0 for none. A connection alone tells
    nothing: proxies on the way to addresses that do not exist take every one.
    """

    status: int = 0
    whose: str = ""
    closing: bool = True


def _query_health(address: str) -> _HealthResponse:
    connection = http.client.HTTPConnection(address, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", _HEALTH_PATH)
        reply = connection.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException):
        return _HealthResponse()
    finally:
        connection.close()
    return _HealthResponse(reply.status, reply.headers.get(INSTANCE_HEADER, ""), reply.will_close)


def _is_new_pod(newest: set[str], address: str) -> bool:
    """Whether one of these pods answers; of an image of others, one that says no goodbye."""
    found = _query_health(address)
    if found.whose:
        return found.whose in newest
    return 0 < found.status < 500 and not found.closing
