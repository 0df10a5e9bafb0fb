"""Checks of nodes: readiness, architecture, GPUs, and access to node ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Raw
from fnbuild.platforms import Finding
from fnbuild.platforms.kubeclient.objects import KubeObject, Node
from fnbuild.platforms.kubernetes.labels import means_absent
from fnbuild.platforms.settings import GPU_RESOURCE

_MAX_NAMES = 5
_PRESSURES = {
    "DiskPressure": "short of disk",
    "MemoryPressure": "short of memory",
    "PIDPressure": "short of process ids",
    "NetworkUnavailable": "without a network",
}
# By hand as CVAT's guides have it, by NVIDIA's feature discovery, by clouds.
_GPU_LABELS = (
    "gpu",
    "nvidia.com/gpu",
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "accelerator",
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
)
_PLUGIN_REMEDY = (
    "install NVIDIA's device plugin (https://github.com/NVIDIA/k8s-device-plugin) or GPU operator;"
    " `kubectl get daemonsets -A` shows whether one is there"
)

_NODE_PORTS_AREA = "node-ports"
_CONNECT_SECONDS = 1.5
_MAX_NODES = 8
_MAX_PORTS = 4
_PROBED_PORT = 32767
_BLOCKED_REMEDY = (
    "let this machine and CVAT's reach TCP 30000-32767 of the nodes (firewall, security group), or"
    " use `--http-trigger-service-type LoadBalancer` or an ingress; `fnbuild invoke` goes through"
    " the API server meanwhile"
)
_KUBE_PROXY_REMEDY = (
    "is kube-proxy, or what does its work, well on every node (`kubectl get pods -n kube-system -o"
    " wide`)? If it is, " + _BLOCKED_REMEDY
)

PortState = Literal["open", "closed", "silent"]


def check_readiness(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Check that nodes accept pods and are not under pressure."""
    ready_nodes = [node for node in nodes if node.is_ready and not node.is_cordoned]
    if ready_nodes:
        yield Finding("nodes", "ok", f"{_count(len(ready_nodes))} ready: {_names(ready_nodes)}")
    elif not nodes:
        yield Finding("nodes", "failure", "the cluster has no node", "add one")
    for node in nodes:
        name = node.name
        remedy = f"`kubectl describe node {name}` says why"
        if not node.is_ready:
            why = node.condition("Ready").message.strip(" .")
            text = f"node {name} is not ready" + (f": {why}" if why else "")
            yield Finding("nodes", "warning" if ready_nodes else "failure", text, remedy)
        elif node.is_cordoned:
            text = f"node {name} is closed to new pods"
            state = f"`kubectl uncordon {name}` opens it again"
            yield Finding("nodes", "warning" if ready_nodes else "failure", text, state)
        for condition_type, problem in _PRESSURES.items():
            if node.condition(condition_type).is_true:
                yield Finding("nodes", "warning", f"node {name} is {problem}", remedy)


def check_architecture(nodes: Sequence[Node], built: str) -> Iterator[Finding]:
    """Check that images built for an architecture (`amd64`) run on the nodes."""
    by_architecture: dict[str, list[Node]] = {}
    for node in nodes:
        by_architecture.setdefault(node.architecture or "?", []).append(node)
    incompatible = {
        architecture_name: group
        for architecture_name, group in by_architecture.items()
        if architecture_name not in (built, "?")
    }
    if not incompatible:
        yield Finding("nodes", "ok", f"images of the engine run on them: linux/{built}")
        return
    for architecture_name, group in incompatible.items():
        yield Finding(
            "nodes",
            "warning" if built in by_architecture else "failure",
            f"the engine builds for {built}, and {_names(group)} is {architecture_name}: its pods"
            " would fail with `exec format error`",
            f"spec.build.flags [`--platform linux/{architecture_name}`] builds for them; or"
            f" spec.nodeSelector {{kubernetes.io/arch: {built}}} keeps functions off them",
        )


def check_gpus(nodes: Sequence[Node], plugins: Sequence[KubeObject]) -> Iterator[Finding]:
    """Check the GPUs of the nodes. `plugins` are the visible DaemonSets of the device plugin."""
    offered = False
    for node in nodes:
        name = node.name
        capacity, allocatable = _gpu_count(node.capacity), _gpu_count(node.allocatable)
        if capacity:
            offered = True
            text = f"node {name} offers {allocatable} {GPU_RESOURCE}"
            if allocatable < capacity:
                yield Finding(
                    "gpu",
                    "warning",
                    f"{text} of {capacity}: the device plugin reports the others as unhealthy",
                    f"`kubectl describe node {name}`, and `nvidia-smi` on the node",
                )
            else:
                yield Finding("gpu", "ok", text)
        elif label := _gpu_label(node):
            yield Finding(
                "gpu",
                "warning",
                f"no device plugin answers on node {name}: it has the label {label} and offers no"
                f" {GPU_RESOURCE}",
                _PLUGIN_REMEDY,
            )
            offered = True
    if not offered:
        yield Finding("gpu", "ok", f"no node offers {GPU_RESOURCE}: functions run on the CPU")
    for plugin in plugins:
        yield from _check_device_plugin(plugin)


def _check_device_plugin(daemon_set: KubeObject) -> Iterator[Finding]:
    desired = daemon_set.status.number("desiredNumberScheduled")
    ready = daemon_set.status.number("numberReady")
    full_name = f"{daemon_set.namespace}/{daemon_set.name}"
    if ready < desired:
        yield Finding(
            "gpu",
            "warning",
            f"the device plugin {full_name} runs on {ready} of {desired} nodes",
            f"`kubectl describe daemonset {daemon_set.name} -n {daemon_set.namespace}`",
        )
    elif desired:
        yield Finding("gpu", "ok", f"the device plugin {full_name} runs on {_count(desired)}")


def is_device_plugin(daemon_set: KubeObject) -> bool:
    """Return True if a DaemonSet is NVIDIA's device plugin or the GPU operator's."""
    return "nvidia-device-plugin" in daemon_set.name


def node_addresses(node: Node) -> list[str]:
    """Return the addresses of a node, external ones first."""
    return [*node.addresses("ExternalIP"), *node.addresses("InternalIP")]


def _gpu_label(node: Node) -> str:
    labels = node.labels
    for key in _GPU_LABELS:
        if not means_absent(str(labels.get(key, ""))):
            return f"{key}={labels[key]}"
    return ""


def _gpu_count(resources: Raw) -> int:
    return int(parse_quantity(str(resources.get(GPU_RESOURCE, "0"))))


def _names(nodes: Sequence[Node]) -> str:
    names = [node.name for node in nodes]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _count(number: int) -> str:
    return f"{number} node{'' if number == 1 else 's'}"


def check_node_ports(
    nodes: Sequence[Node],
    services: Sequence[KubeObject],
    endpoints: Sequence[KubeObject] | None = None,
) -> Iterator[Finding]:
    """Check the node port of a function, or else the network path to the nodes.

    `services` and `endpoints` are those of functions; without `endpoints` it is unknown which have
    ready pods. Without functions, an unused port is tested: a node that refuses the connection is
    reachable.
    """
    hosts = [host for node in nodes[:_MAX_NODES] for host in node_addresses(node)]
    if not hosts:
        text = "no node tells an address by which it could be reached"
        yield Finding(_NODE_PORTS_AREA, "skipped", text)
        return
    serving = [
        service
        for service in services
        if endpoints is None or service.name in _ready_services(endpoints)
    ]
    ports = [(service.name, port) for service in serving for port in _service_node_ports(service)][
        :_MAX_PORTS
    ]
    for name, port in ports:
        states = _probe_hosts(hosts, port)
        reachable = [host for host, state in states.items() if state == "open"]
        if reachable:
            text = f"node port {port} of {name} answers at {', '.join(reachable)}"
            yield Finding(_NODE_PORTS_AREA, "ok", text)
            return
    states = _probe_hosts(hosts, _PROBED_PORT)
    reachable = [host for host, state in states.items() if state != "silent"]
    if not reachable:
        text = f"node ports do not answer from here: {', '.join(states)} is silent"
        yield Finding(_NODE_PORTS_AREA, "warning", text, _BLOCKED_REMEDY)
    elif ports and endpoints is not None:
        name, port = ports[0]
        text = f"node port {port} of {name} does not answer, and its pods are ready"
        yield Finding(
            _NODE_PORTS_AREA, "warning", f"{text}: asked at {', '.join(hosts)}", _KUBE_PROXY_REMEDY
        )
    else:
        text = f"{', '.join(reachable)} can be reached; there is no function to be called yet"
        if services:
            text = f"{', '.join(reachable)} can be reached; no function there answers now"
        yield Finding(_NODE_PORTS_AREA, "ok", text)


def _ready_services(endpoints: Sequence[KubeObject]) -> set[str]:
    """Return the names of Services with ready pods."""
    return {
        endpoint.name
        for endpoint in endpoints
        if any(subset.get("addresses") for subset in endpoint.items_of("subsets"))
    }


def _service_node_ports(service: KubeObject) -> list[int]:
    ports = service.spec.items_of("ports")
    return [port.number("nodePort") for port in ports if port.get("nodePort")]


def _probe_hosts(hosts: Sequence[str], port: int) -> dict[str, PortState]:
    with ThreadPoolExecutor(len(hosts)) as pool:
        states = pool.map(lambda host: probe_port(host, port), hosts)
        return dict(zip(hosts, states, strict=True))


def probe_port(host: str, port: int) -> PortState:
    """Return whether a port is open, closed, or silent (no response)."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            return "open"
    except ConnectionRefusedError:
        return "closed"
    except OSError:
        return "silent"
