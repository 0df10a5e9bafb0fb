"""The endpoints of a function: its addresses, and the one that this machine reaches."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from fnbuild.function.types import Raw
from fnbuild.hosts import bracketed, is_loopback
from fnbuild.platforms import Deployment
from fnbuild.platforms.errors import no_ready_pod_error
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubeclient.port_forward import forward_port
from fnbuild.platforms.kubernetes import inventory
from fnbuild.platforms.kubernetes.diagnosis import queries
from fnbuild.platforms.kubernetes.inventory import FunctionObjects
from fnbuild.platforms.kubernetes.labels import KubernetesKey
from fnbuild.platforms.kubernetes.manifests import keda
from fnbuild.platforms.kubernetes.manifests.pods import GRPC_PORT_NAME
from fnbuild.runtime.ids import INSTANCE_HEADER, instance_id

SERVICE_PORT = 8080

_EXTERNAL_ADDRESSES_VARIABLE = "NUCTL_EXTERNAL_IP_ADDRESSES"
_MAX_HOSTS = 3

_CONNECT_SECONDS = 1.0
_HEALTH_PATH = "/__internal/health"
# The longest time until nodes send requests to new pods only, and the number of successive
# responses that prove it: of two pods, each gets every second connection at random.
_SWITCH_SECONDS = 5.0
_REQUIRED_RESPONSES = 10
_PAUSE_SECONDS = 0.05


def node_hosts(
    cluster: Cluster, functions: list[FunctionObjects], pods: Iterable[Pod] = ()
) -> tuple[str, ...]:
    """Return hosts that serve the functions' node ports; none if no function has one.

    These are the entries of NUCTL_EXTERNAL_IP_ADDRESSES, as for nuctl; or else the addresses of
    nodes, external ones first; or else, if listing nodes is forbidden, the hosts of pods. Three
    are enough: every node serves every function.
    """
    if configured := [
        address.strip()
        for address in os.environ.get(_EXTERNAL_ADDRESSES_VARIABLE, "").split(",")
        if address.strip()
    ]:
        return tuple(configured)
    if not any(node_port(function.service) for function in functions):
        return ()
    nodes = queries.list_nodes(cluster)
    if nodes is None:
        namespace = functions[0].key.namespace
        pods = list(pods) or if_allowed(
            lambda: inventory.list_namespace_pods(cluster, namespace), ()
        )
        return _hosts_of_pods(cluster, pods)
    ready = [node for node in nodes if node.is_ready]
    for address_type in ("ExternalIP", "InternalIP"):
        if addresses := [address for node in ready for address in node.addresses(address_type)]:
            return tuple(addresses[:_MAX_HOSTS])
    return ()


def _hosts_of_pods(cluster: Cluster, pods: Iterable[Pod]) -> tuple[str, ...]:
    """Return the hosts of the pods, and this machine if the API server runs on it.

    Any other host of the API server may be a load balancer, which has no node ports.
    """
    host_ips = [pod.status.text("hostIP") for pod in pods]
    nodes = list(dict.fromkeys(filter(None, host_ips)))[:_MAX_HOSTS]
    host = urlsplit(cluster.server).hostname or ""
    is_local = not cluster.in_cluster and is_loopback(host)
    return tuple(dict.fromkeys([*nodes, host] if is_local else nodes))


def node_port(service: Raw | None) -> int:
    """Return the node port of a Service, or 0."""
    return int(_http_port(service).get("nodePort") or 0)


def grpc_node_port(service: Raw | None) -> int:
    """Return the node port for gRPC of a Service, or 0."""
    ports: list[Raw] = ((service or {}).get("spec") or {}).get("ports") or []
    named = [port for port in ports if port.get("name") == GRPC_PORT_NAME]
    return int(named[0].get("nodePort") or 0) if named else 0


def _http_port(service: Raw | None) -> Raw:
    """Return the port of the function; Nuclio names it `http`."""
    ports: list[Raw] = ((service or {}).get("spec") or {}).get("ports") or []
    named = [
        port for port in ports if port.get("name") == "http" or port.get("port") == SERVICE_PORT
    ]
    return named[0] if named else {}


def internal_addresses(objects: FunctionObjects) -> tuple[str, ...]:
    """Return the address of the function, or that of KEDA's proxy, inside the cluster."""
    if objects.service is None or objects.deployment is None:
        return ()
    if objects.is_scaled_to_zero_by_keda:
        return (f"{keda.proxy_host(objects.key)}.svc.cluster.local:{keda.INTERCEPTOR_PORT}",)
    return (f"{objects.key.object_name}.{objects.key.namespace}.svc.cluster.local:{SERVICE_PORT}",)


def external_addresses(objects: FunctionObjects, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the external addresses: node ports, load balancers and Ingresses, in this order."""
    port = node_port(objects.service)
    nodes = [f"{bracketed(host)}:{port}" for host in hosts] if port else []
    service_port = _http_port(objects.service).get("port", SERVICE_PORT)
    balancers = (f"{bracketed(host)}:{service_port}" for host in _balancer_hosts(objects.service))
    return tuple(dict.fromkeys([*nodes, *balancers, *_ingress_addresses(objects.ingress)]))


def _balancer_hosts(obj: Raw | None) -> Iterator[str]:
    status: Raw = ((obj or {}).get("status") or {}).get("loadBalancer") or {}
    for entry in status.get("ingress") or []:
        if host := entry.get("ip") or entry.get("hostname"):
            yield str(host)


def _ingress_addresses(ingress: Raw | None) -> Iterator[str]:
    spec: Raw = (ingress or {}).get("spec") or {}
    secured = {host for tls in spec.get("tls") or [] for host in tls.get("hosts") or []}
    for rule in spec.get("rules") or []:
        # A rule without a host applies to all names of the controller's address.
        hosts = [rule["host"]] if rule.get("host") else list(_balancer_hosts(ingress))
        for path in (rule.get("http") or {}).get("paths") or []:
            for name in hosts:
                scheme = "https://" if name in secured else ""
                yield f"{scheme}{name}{(path.get('path') or '').rstrip('/')}"


@contextmanager
def reach_function(cluster: Cluster, deployment: Deployment) -> Iterator[str]:
    """Yield a URL of the function that this machine reaches, or "" if no pod serves.

    Requests to a function that KEDA scales to zero go through its interceptor if possible: it
    starts a pod for them, and counts them.
    """
    if deployment.host:
        with _reach_interceptor(cluster) as url:
            if url:
                yield url
                return
    if address := _first_matching(_candidate_addresses(cluster, deployment), _is_healthy):
        yield f"http://{address}"
        return
    key = KubernetesKey.of(deployment.function)
    pod = _newest_ready_pod(cluster, key)
    if pod is None:
        yield ""
        return
    with forward_port(cluster, key.namespace, pod.name) as url:
        yield url


@contextmanager
def _reach_interceptor(cluster: Cluster) -> Iterator[str]:
    """Yield a URL of KEDA's interceptor, or "" if there is none that this user may use."""
    namespace, name = keda.keda_namespace(), keda.INTERCEPTOR_SERVICE
    if cluster.in_cluster:
        address = f"{name}.{namespace}.svc.cluster.local:{keda.INTERCEPTOR_PORT}"
        yield f"http://{address}" if _is_reachable(address) else ""
        return
    service = if_allowed(lambda: cluster.get(kinds.SERVICE, namespace, name), None)
    selector = ((service or {}).get("spec") or {}).get("selector") or {}
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    pods = (
        if_allowed(lambda: cluster.list(kinds.POD, namespace, labels=labels), ()) if labels else ()
    )
    pod = _newest_ready(map(Pod, pods))
    if pod is None:
        yield ""
        return
    with forward_port(cluster, namespace, pod.name, keda.INTERCEPTOR_PORT) as url:
        yield url


def forward_to_function(
    cluster: Cluster, deployment: Deployment, local_port: int, port: int
) -> AbstractContextManager[str]:
    """Forward a local port to the newest ready pod. Raises `NotReadyError` without one."""
    key = KubernetesKey.of(deployment.function)
    pod = _newest_ready_pod(cluster, key)
    if pod is None:
        raise no_ready_pod_error(key.name)
    return forward_port(cluster, key.namespace, pod.name, port, local_port=local_port)


def _newest_ready_pod(cluster: Cluster, key: KubernetesKey) -> Pod | None:
    return _newest_ready(inventory.list_pods(cluster, key))


def _newest_ready(pods: Iterable[Pod]) -> Pod | None:
    serving = [pod for pod in pods if pod.is_ready and not pod.is_terminating]
    return max(serving, key=lambda pod: pod.created, default=None)


def wait_for_new_pods(cluster: Cluster, deployment: Deployment) -> None:
    """Wait until the node port leads to new pods only, as far as this machine can tell.

    Nodes update their rules shortly after a pod becomes ready or terminates. Without this wait, a
    request right after a deploy may reach an old pod, or none.
    """
    new_pods = {instance_id(pod) for pod in deployment.processors}
    addresses = _candidate_addresses(cluster, deployment) if new_pods else []
    address = _first_matching(addresses, _is_reachable)
    deadline = time.monotonic() + _SWITCH_SECONDS
    good = 0
    while address and good < _REQUIRED_RESPONSES and time.monotonic() < deadline:
        good = good + 1 if _is_new_pod(new_pods, address) else 0
        if not good:
            time.sleep(_PAUSE_SECONDS)


def _candidate_addresses(cluster: Cluster, deployment: Deployment) -> list[str]:
    """Return the addresses in the order of preference: inside the cluster, the Service first."""
    inside = deployment.internal_urls if cluster.in_cluster else ()
    addresses = (*inside, *deployment.external_urls)
    return [address for address in addresses if address.rpartition(":")[2].isdecimal()]


def _first_matching(addresses: list[str], predicate: Callable[[str], bool]) -> str:
    """Return the first address that matches, or ""; all are tested concurrently."""
    if not addresses:
        return ""
    with ThreadPoolExecutor(len(addresses)) as pool:
        matches = list(pool.map(predicate, addresses))
    return next(
        (address for address, is_match in zip(addresses, matches, strict=True) if is_match), ""
    )


def _is_healthy(address: str) -> bool:
    return _query_health(address).status == HTTPStatus.OK


def _is_reachable(address: str) -> bool:
    """Return True if the address accepts or refuses connections.

    An address that refuses them is reachable and may accept them shortly.
    """
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
    """The response of a health endpoint; `status` is 0 without one.

    A connection alone proves nothing: proxies accept connections to addresses that do not exist.
    """

    status: int = 0
    instance: str = ""
    closing: bool = True


def _query_health(address: str) -> _HealthResponse:
    connection = http.client.HTTPConnection(address, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", _HEALTH_PATH)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return _HealthResponse()
    finally:
        connection.close()
    return _HealthResponse(
        response.status, response.headers.get(INSTANCE_HEADER, ""), response.will_close
    )


def _is_new_pod(new_pods: set[str], address: str) -> bool:
    """Return True if a new pod responds; without an instance header, if it keeps connections."""
    health = _query_health(address)
    if health.instance:
        return health.instance in new_pods
    return 0 < health.status < 500 and not health.closing
