"""Replacement of a function's pods, depending on the free capacity of the nodes.

The pods of a function with a GPU are replaced with a gap by default, because the old pod may hold
the only GPU (`pods.deployment_strategy`). If another GPU is free, or if the old pod holds none, the
new pod starts beside the old one. If no node could run the new pod at all, nothing is changed.

The scheduler has the final say. This module predicts its decision for the nodes as they are now,
from requests, node selectors, required node affinity and taints.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from fnbuild.errors import PreconditionError
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Manifest
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import Container, KubeDeployment, Node, Pod
from fnbuild.platforms.kubernetes.diagnosis import queries
from fnbuild.platforms.kubernetes.diagnosis.scheduling import explain_unschedulable
from fnbuild.platforms.kubernetes.labels import OVERLAP
from fnbuild.platforms.kubernetes.manifests import scaling
from fnbuild.platforms.kubernetes.pod_status import PodFinding
from fnbuild.platforms.settings import GPU_RESOURCE, needs_gpu

Quantities = dict[str, Decimal]

_BINARY_UNITS = (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))

ReplacementMode = Literal["as-configured", "beside", "gap"]
"""`beside`: the Deployment's strategy has a gap, but this rollout does not need it. `gap`: the old
pods end first. `as-configured`: the Deployment's own strategy applies.
"""

_RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed"
_AUTOSCALER_STATUS = ("kube-system", "cluster-autoscaler-status")

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

    `own` are the names of the function's pods in the namespace of `pod`. Pods that have ended or
    have no node use no capacity.
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
    beside = instead = 0
    for node in open_nodes:
        free = _subtract(_parse_quantities(node.allocatable), others.get(node.name, {}))
        instead += _fit_count(free, needed)
        beside += _fit_count(_subtract(free, held.get(node.name, {})), needed)
    return Capacity(beside, instead, _shortage(pod, nodes, open_nodes, others))


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


# Shortages
def _shortage(
    pod: Pod, nodes: Sequence[Node], open_nodes: Sequence[Node], others: Mapping[str, Quantities]
) -> PodFinding:
    if not open_nodes:
        return _no_eligible_node(pod, nodes)
    free = {
        node.name: _subtract(_parse_quantities(node.allocatable), others.get(node.name, {}))
        for node in open_nodes
    }
    for resource, needed in sorted(
        pod_requests(pod).items(), key=lambda item: item[0] != GPU_RESOURCE
    ):
        amounts = {node: amounts.get(resource, Decimal(0)) for node, amounts in free.items()}
        if max(amounts.values()) < needed:
            return _insufficient(resource, needed, open_nodes, amounts)
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
    field = "limits" if name == GPU_RESOURCE else "requests"
    limit_advice = (
        f"ask for {_format_quantity(name, free)} at most (spec.resources.{field})"
        if free > 0
        else ""
    )
    if name == GPU_RESOURCE:
        advice = "`kubectl describe nodes` shows what they offer and who uses it; without NVIDIA's"
        advice += " device plugin they offer none"
    else:
        advice = "make room, or add a node"
    return f"{limit_advice}; {advice}" if limit_advice else advice


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


@dataclass(frozen=True, slots=True)
class Replacement:
    """The way of the replacement, and the error if a deploy has to be refused."""

    mode: ReplacementMode = "as-configured"
    refusal: PreconditionError | None = None


def choose_replacement(
    cluster: Cluster, function: Function, wanted: Raw, live: Raw | None, pods: Sequence[Pod]
) -> Replacement:
    """Choose the way from the Deployment `live` to the Deployment `wanted`.

    `pods` are those of the function. If this user may not list nodes or other pods, the scheduler
    decides.
    """
    deployment = KubeDeployment(wanted)
    recreates = deployment.recreates_pods
    replicas = scaling.replica_bounds(function)[0]
    if not replicas or not (recreates or needs_gpu(function)):
        return Replacement()
    new_pods = live is None or live["spec"]["template"] != deployment.template
    own_pods = [pod for pod in pods if pod.phase != "Failed"]
    if not new_pods and len(own_pods) >= replicas:
        return Replacement()
    capacity = _query_capacity(cluster, deployment, own_pods)
    if capacity is not None and capacity.instead < replicas and not _adds_nodes(cluster):
        return Replacement(refusal=_refusal(function, capacity, replicas))
    if recreates and new_pods and own_pods:
        return Replacement(_choose_mode(function, capacity, own_pods))
    return Replacement()


def _choose_mode(
    function: Function, capacity: Capacity | None, own_pods: Sequence[Pod]
) -> ReplacementMode:
    if function.spec.deployment_strategy:
        return "gap"  # chosen for other reasons, such as a volume that only one pod can mount
    if capacity is None:
        return "gap" if any(map(pod_gpus, own_pods)) else "beside"
    # If a pod fits in neither case, the cluster adds a node for the pending pod.
    return "beside" if capacity.beside or not capacity.instead else "gap"


def with_overlap(deployment: Manifest) -> Manifest:
    """Return the Deployment for a rollout in which old and new pods run at the same time.

    The annotation records that the user did not ask for this: the strategy is restored afterwards.
    """
    metadata = deployment["metadata"]
    annotations = metadata.get("annotations", {}) | {OVERLAP: "false"}
    rolling = {"maxUnavailable": 0, "maxSurge": 1}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {
        **deployment,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**deployment["spec"], "strategy": strategy},
    }


def _query_capacity(
    cluster: Cluster, deployment: KubeDeployment, own_pods: Sequence[Pod]
) -> Capacity | None:
    """Return the room for pods of the Deployment, or None without the rights to determine it."""
    with ThreadPoolExecutor(2) as pool:
        nodes = pool.submit(queries.list_nodes, cluster)
        pods = pool.submit(
            if_allowed, lambda: cluster.list(kinds.POD, None, fields=_RUNNING_PODS), None
        )
        if (node_list := nodes.result()) is None:
            return None
        other_pods = pods.result()
    template = deployment.template
    metadata = {**template.metadata, "namespace": deployment.namespace}
    pod = Pod(metadata=metadata, spec=template.spec)
    names = [old.name for old in own_pods]
    capacity = measure_capacity(pod, node_list, map(Pod, other_pods or ()), names)
    # Without the list of other pods, only a pod that never fits can be recognized.
    return capacity if other_pods is not None or not capacity.instead else None


def _adds_nodes(cluster: Cluster) -> bool:
    """Return True if the cluster may add a node for a pod that no node takes."""
    if cluster.serves(kinds.KARPENTER_NODE_POOL):
        return True
    status = if_allowed(lambda: cluster.get(kinds.CONFIG_MAP, *_AUTOSCALER_STATUS), None)
    return status is not None


def _refusal(function: Function, capacity: Capacity, replicas: int) -> PreconditionError:
    name = function.metadata.name
    if capacity.instead:
        text = f"the nodes have room for {capacity.instead} of {replicas} replicas"
        hint = f"`--replicas {capacity.instead}`; or make room: `kubectl describe nodes`"
    else:
        text, hint = capacity.shortage.text, capacity.shortage.hint
    return PreconditionError(f"{name} cannot run, and nothing was changed: {text}", hint=hint)


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
