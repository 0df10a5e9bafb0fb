"""Free capacity of the nodes for a function's pods, checked before serving pods are stopped.

The scheduler has the final say. This module predicts its decision for the nodes as they are now,
from requests, node selectors, required node affinity and taints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fnbuild.platforms.kube.findings import Finding
from fnbuild.platforms.kube.nodefit import obstacle
from fnbuild.platforms.kube.scheduling import unschedulable
from fnbuild.platforms.settings import GPU_RESOURCE
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Raw

Amounts = dict[str, Decimal]

_BINARY = (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))


@dataclass(frozen=True, slots=True)
class Room:
    """The number of pods that fit `beside` the function's current pods, and `instead` of them.

    `shortage` names the resource that is missing for one more pod, with the remedy.
    """

    beside: int
    instead: int
    shortage: Finding


def room(pod: Raw, nodes: Sequence[Raw], pods: Iterable[Raw], own: Iterable[str]) -> Room:
    """Count the pods of a template that fit.

    `own` are the names of the function's pods in the namespace of `pod`. Pods that have ended or
    have no node use no capacity.
    """
    names, namespace = set(own), pod["metadata"]["namespace"]
    held: dict[str, Amounts] = {}
    others: dict[str, Amounts] = {}
    for other in pods:
        node = other["spec"].get("nodeName")
        if not node or (other.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        metadata = other["metadata"]
        amounts = (
            held if metadata["namespace"] == namespace and metadata["name"] in names else others
        )
        _add(amounts.setdefault(node, {}), requests_of(other))
    needed = requests_of(pod)
    open_nodes = [node for node in nodes if not obstacle(node, pod["spec"])]
    beside = instead = 0
    for node in open_nodes:
        name = node["metadata"]["name"]
        free = _less(_allocatable(node), others.get(name, {}))
        instead += _times(free, needed)
        beside += _times(_less(free, held.get(name, {})), needed)
    return Room(beside, instead, _shortage(pod, nodes, open_nodes, others))


def requests_of(pod: Raw) -> Amounts:
    """Return what the scheduler reserves for a pod.

    That is the sum of its containers, or the maximum of its init containers if that is larger.
    """
    spec = pod["spec"]
    total: Amounts = {"pods": Decimal(1)}
    for container in spec.get("containers") or []:
        _add(total, _requests(container))
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            _add(total, _requests(container))
            continue
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    overhead = spec.get("overhead") or {}
    _add(total, {name: quantity(str(amount)) for name, amount in overhead.items()})
    return total


def gpus_of(pod: Raw) -> int:
    """Return the number of GPUs that a pod or a template reserves."""
    return int(requests_of(pod).get(GPU_RESOURCE, 0))


def _requests(container: Raw) -> Amounts:
    resources = container.get("resources") or {}
    some = (resources.get("limits") or {}) | (resources.get("requests") or {})
    return {name: quantity(str(amount)) for name, amount in some.items()}


def _allocatable(node: Raw) -> Amounts:
    some = (node.get("status") or {}).get("allocatable") or {}
    return {name: quantity(str(amount)) for name, amount in some.items()}


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _less(some: Amounts, taken: Mapping[str, Decimal]) -> Amounts:
    return {name: amount - taken.get(name, Decimal(0)) for name, amount in some.items()}


def _times(free: Amounts, needed: Amounts) -> int:
    """Return the number of pods that fit into the free amounts."""
    counts = [
        int(free.get(name, Decimal(0)) // amount) for name, amount in needed.items() if amount
    ]
    return max(0, min(counts))


# Shortages
def _shortage(
    pod: Raw, nodes: Sequence[Raw], open_nodes: Sequence[Raw], others: Mapping[str, Amounts]
) -> Finding:
    if not open_nodes:
        return _closed(pod, nodes)
    free: dict[str, Amounts] = {}
    for node in open_nodes:
        name = node["metadata"]["name"]
        free[name] = _less(_allocatable(node), others.get(name, {}))
    for resource, needed in sorted(
        requests_of(pod).items(), key=lambda item: item[0] != GPU_RESOURCE
    ):
        amounts = {node: some.get(resource, Decimal(0)) for node, some in free.items()}
        if max(amounts.values()) < needed:
            return _insufficient(resource, needed, open_nodes, amounts)
    return Finding(
        "no node has all that it asks for free at once", "ask for less in spec.resources"
    )


def _insufficient(
    name: str, needed: Decimal, nodes: Sequence[Raw], free: Mapping[str, Decimal]
) -> Finding:
    """Describe the shortage by the node that comes closest."""
    best = max(nodes, key=lambda node: free[node["metadata"]["name"]])
    node = best["metadata"]["name"]
    offered = _allocatable(best).get(name, Decimal(0))
    text = f"no node has {_shown(name, needed)} {name} for a pod: node {node}"
    if not offered:
        return Finding(f"{text} offers none", _remedy(name, Decimal(0)))
    text += f" offers {_shown(name, offered)}"
    if free[node] < offered:
        text += f", of which other pods leave {_shown(name, max(free[node], Decimal(0)))}"
    return Finding(text, _remedy(name, free[node]))


def _remedy(name: str, free: Decimal) -> str:
    if name == "pods":
        return "`kubectl describe nodes` shows what runs there; delete some pods, or add a node"
    field = "limits" if name == GPU_RESOURCE else "requests"
    ask = f"ask for {_shown(name, free)} at most (spec.resources.{field})" if free > 0 else ""
    if name == GPU_RESOURCE:
        more = "`kubectl describe nodes` shows what they offer and who uses it; without NVIDIA's"
        more += " device plugin they offer none"
    else:
        more = "make room, or add a node"
    return f"{ask}; {more}" if ask else more


def _shown(name: str, amount: Decimal) -> str:
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        for unit, size in _BINARY:
            if amount >= size:
                return f"{int(amount) // size}{unit}"
    if name == "cpu" and amount != amount.to_integral_value():
        return f"{int(amount * 1000)}m"
    return str(int(amount))


def _closed(pod: Raw, nodes: Sequence[Raw]) -> Finding:
    """Return the reason why no node accepts the pod, as the scheduler reports it."""
    counts: dict[str, int] = {}
    for node in nodes:
        reason = obstacle(node, pod["spec"])
        counts[reason] = counts.get(reason, 0) + 1
    if not nodes:
        return unschedulable("no nodes available to schedule pods", pod)
    parts = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return unschedulable(f"0/{len(nodes)} nodes are available: {parts}.", pod, list(nodes))
