"""The number of a function's pods that the nodes have room for.

The scheduler has the final say. This module predicts its decision for the nodes as they are now,
from requests, node selectors, required node affinity and taints.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.objects import Container, Node, Pod
from fnbuild.platforms.kubernetes.diagnosis.scheduling import GPU_HINT, explain_unschedulable
from fnbuild.platforms.kubernetes.pod_status import PodFinding
from fnbuild.platforms.settings import GPU_RESOURCE

Quantities = dict[str, Decimal]

_BINARY_UNITS = (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))

_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_OTHER_NODE_NAME = "node(s) didn't match the requested node name"
_CORDONED = "node(s) were unschedulable"


@dataclass(frozen=True, slots=True)
class Capacity:
    """The number of pods that fit `beside` the function's current pods, and `instead` of them.

    `shortage` names the resource that is missing for one more pod, with the remedy.
    """

    beside: int
    instead: int
    shortage: PodFinding


def measure_capacity(
    pod: Pod, nodes: Sequence[Node], pods: Iterable[Pod], own_names: Iterable[str]
) -> Capacity:
    """Count the pods of a template that fit.

    `own_names` are the names of the function's pods in the namespace of `pod`. Pods that have ended
    or have no node use no capacity.
    """
    names, namespace = set(own_names), pod.namespace
    held: dict[str, Quantities] = {}
    others: dict[str, Quantities] = {}
    for other in pods:
        if not other.node_name or other.has_ended:
            continue
        is_own = other.namespace == namespace and other.name in names
        amounts = held if is_own else others
        _add(amounts.setdefault(other.node_name, {}), pod_requests(other))
    needed = pod_requests(pod)
    open_nodes = [node for node in nodes if not ineligibility(node, pod)]
    free = {
        node.name: _subtract(_parse_quantities(node.allocatable), others.get(node.name, {}))
        for node in open_nodes
    }
    instead = sum(_fit_count(amounts, needed) for amounts in free.values())
    beside = sum(
        _fit_count(_subtract(amounts, held.get(name, {})), needed) for name, amounts in free.items()
    )
    shortage = _shortage(needed, open_nodes, free) if open_nodes else _no_eligible_node(pod, nodes)
    return Capacity(beside, instead, shortage)


def pod_requests(pod: Pod) -> Quantities:
    """Return what the scheduler reserves for a pod.

    That is the sum of its containers, or the maximum of its init containers if that is larger.
    """
    total: Quantities = {"pods": Decimal(1)}
    for container in pod.containers:
        _add(total, _requests(container))
    for container in pod.init_containers:
        if container.restarts_always:
            _add(total, _requests(container))
            continue
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    _add(total, _parse_quantities(pod.spec.section("overhead")))
    return total


def pod_gpus(pod: Pod) -> int:
    """Return the number of GPUs that a pod or a template reserves."""
    return int(pod_requests(pod).get(GPU_RESOURCE, 0))


def _requests(container: Container) -> Quantities:
    return _parse_quantities({**container.limits, **container.requests})


def _parse_quantities(amounts: Raw) -> Quantities:
    return {name: parse_quantity(str(amount)) for name, amount in amounts.items()}


def _add(total: Quantities, added: Mapping[str, Decimal]) -> None:
    for name, amount in added.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _subtract(amounts: Quantities, taken: Mapping[str, Decimal]) -> Quantities:
    return {name: amount - taken.get(name, Decimal(0)) for name, amount in amounts.items()}


def _fit_count(free: Quantities, needed: Quantities) -> int:
    """Return the number of pods that fit into the free amounts."""
    counts = [
        int(free.get(name, Decimal(0)) // amount) for name, amount in needed.items() if amount
    ]
    return max(0, min(counts))


def _shortage(
    requests: Quantities, nodes: Sequence[Node], free: Mapping[str, Quantities]
) -> PodFinding:
    """Return the shortage of the first resource that no node has; GPUs come first."""
    for resource in sorted(requests, key=lambda name: name != GPU_RESOURCE):
        amounts = {node: amounts.get(resource, Decimal(0)) for node, amounts in free.items()}
        if max(amounts.values()) < requests[resource]:
            return _insufficient(resource, requests[resource], nodes, amounts)
    return PodFinding(
        "no node has all that it asks for free at once", "ask for less in spec.resources"
    )


def _insufficient(
    name: str, needed: Decimal, nodes: Sequence[Node], free: Mapping[str, Decimal]
) -> PodFinding:
    """Describe the shortage by the node that comes closest."""
    best = max(nodes, key=lambda node: free[node.name])
    node = best.name
    offered = _parse_quantities(best.allocatable).get(name, Decimal(0))
    text = f"no node has {_format_quantity(name, needed)} {name} for a pod: node {node}"
    if not offered:
        return PodFinding(f"{text} offers none", _remedy(name, Decimal(0)))
    text += f" offers {_format_quantity(name, offered)}"
    if free[node] < offered:
        text += f", of which other pods leave {_format_quantity(name, max(free[node], Decimal(0)))}"
    return PodFinding(text, _remedy(name, free[node]))


def _remedy(name: str, free: Decimal) -> str:
    if name == "pods":
        return "`kubectl describe nodes` shows what runs there; delete some pods, or add a node"
    field, advice = "requests", "make room, or add a node"
    if name == GPU_RESOURCE:
        field, advice = "limits", GPU_HINT
    if free <= 0:
        return advice
    return f"ask for {_format_quantity(name, free)} at most (spec.resources.{field}); {advice}"


def _format_quantity(name: str, amount: Decimal) -> str:
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        for unit, size in _BINARY_UNITS:
            if amount >= size:
                return f"{int(amount) // size}{unit}"
    if name == "cpu" and amount != amount.to_integral_value():
        return f"{int(amount * 1000)}m"
    return str(int(amount))


def _no_eligible_node(pod: Pod, nodes: Sequence[Node]) -> PodFinding:
    """Return the reason why no node accepts the pod, as the scheduler reports it."""
    counts: dict[str, int] = {}
    for node in nodes:
        reason = ineligibility(node, pod)
        counts[reason] = counts.get(reason, 0) + 1
    if not nodes:
        return explain_unschedulable("no nodes available to schedule pods", pod)
    parts = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return explain_unschedulable(f"0/{len(nodes)} nodes are available: {parts}.", pod, list(nodes))


def ineligibility(node: Node, pod: Pod) -> str:
    """Return the scheduler's reason to keep a pod off the node, or ""."""
    if pod.node_name not in ("", node.name):
        return _OTHER_NODE_NAME
    labels = node.labels
    if any(labels.get(key) != value for key, value in pod.spec.section("nodeSelector").items()):
        return "node(s) didn't match node selector"
    if not _has_affinity(node, pod):
        return "node(s) didn't match Pod's node affinity"
    # A pod that names its node bypasses the scheduler.
    return "" if pod.node_name else _taint_reason(node, pod.spec.get("tolerations") or [])


def _taint_reason(node: Node, tolerations: list[Raw]) -> str:
    if node.is_cordoned and not _tolerates(tolerations, _UNSCHEDULABLE):
        return _CORDONED
    for taint in node.spec.get("taints") or []:
        if taint.get("effect") != "PreferNoSchedule" and not _tolerates(tolerations, taint):
            value = taint.get("value") or ""
            return f"node(s) had taint {{{taint['key']}: {value}}}, that the pod didn't tolerate"
    return ""


def _tolerates(tolerations: Iterable[Raw], taint: Raw) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        exists = toleration.get("operator") == "Exists"
        if not toleration.get("key"):
            if exists:
                return True
        elif toleration["key"] == taint["key"] and (
            exists or (toleration.get("value") or "") == (taint.get("value") or "")
        ):
            return True
    return False


def _has_affinity(node: Node, pod: Pod) -> bool:
    affinity = pod.spec.section("affinity").section("nodeAffinity")
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    labels, fields = node.labels, {"metadata.name": node.name}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(
            _matches_requirement(labels, requirement)
            for requirement in term.get("matchExpressions") or []
        )
        and all(
            _matches_requirement(fields, requirement)
            for requirement in term.get("matchFields") or []
        )
        for term in required.get("nodeSelectorTerms") or []
    )


def _matches_requirement(labels: Mapping[str, str], requirement: Raw) -> bool:
    """Evaluate a node selector requirement."""
    value, values = labels.get(requirement["key"]), requirement.get("values") or []
    compare = _OPERATORS.get(str(requirement.get("operator")))
    # The scheduler of a later Kubernetes may know more operators.
    return compare is None or compare(value, values)


def _numeric(compare: Callable[[int, int], bool]) -> Callable[[str | None, list[str]], bool]:
    def evaluate(value: str | None, values: list[str]) -> bool:
        try:
            return compare(int(value or ""), int(values[0]))
        except (ValueError, IndexError):
            return False

    return evaluate


_OPERATORS: dict[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": _numeric(operator.gt),
    "Lt": _numeric(operator.lt),
}
