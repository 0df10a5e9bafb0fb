"""Replacement of a function's pods, depending on the free capacity of the nodes.

The pods of a function with a GPU are replaced with a gap by default, because the old pod may hold
the only GPU (`pods.deployment_strategy`). If another GPU is free, or if the old pod holds none, the
new pod starts beside the old one. If no node could run the new pod at all, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from fnbuild.errors import PreconditionError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Manifest
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed
from fnbuild.platforms.kubeclient.objects import KubeDeployment, Pod
from fnbuild.platforms.kubernetes.diagnosis import queries
from fnbuild.platforms.kubernetes.labels import OVERLAP
from fnbuild.platforms.kubernetes.manifests import scaling
from fnbuild.platforms.kubernetes.rollout.capacity import Capacity, measure_capacity, pod_gpus
from fnbuild.platforms.settings import needs_gpu

ReplacementMode = Literal["as-configured", "beside", "gap"]
"""`beside`: the Deployment's strategy has a gap, but this rollout does not need it. `gap`: the old
pods end first. `as-configured`: the Deployment's own strategy applies.
"""

_RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed"
_AUTOSCALER_STATUS = ("kube-system", "cluster-autoscaler-status")


@dataclass(frozen=True, slots=True)
class Replacement:
    """The mode in which pods are replaced, and the error if a deploy has to be refused."""

    mode: ReplacementMode = "as-configured"
    refusal: PreconditionError | None = None


def choose_replacement(
    cluster: Cluster, function: Function, wanted: Raw, live: Raw | None, pods: Sequence[Pod]
) -> Replacement:
    """Choose how the pods of the Deployment `live` are replaced by those of `wanted`.

    `pods` are those of the function. If this user may not list nodes or other pods, the scheduler
    decides.
    """
    kube_deployment = KubeDeployment(wanted)
    recreates = kube_deployment.recreates_pods
    replicas = scaling.replica_bounds(function)[0]
    if not replicas or not (recreates or needs_gpu(function)):
        return Replacement()
    new_pods = live is None or live["spec"]["template"] != kube_deployment.template
    own_pods = [pod for pod in pods if pod.phase != "Failed"]
    if not new_pods and len(own_pods) >= replicas:
        return Replacement()
    capacity = _query_capacity(cluster, kube_deployment, own_pods)
    if capacity is not None and capacity.instead < replicas and not _adds_nodes(cluster):
        return Replacement(refusal=_refusal_error(function, capacity, replicas))
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


def with_overlap(manifest: Manifest) -> Manifest:
    """Return the Deployment for a rollout in which old and new pods run at the same time.

    The annotation records that the user did not ask for this: the strategy is restored afterwards.
    """
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {}) | {OVERLAP: "false"}
    rolling = {"maxUnavailable": 0, "maxSurge": 1}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {
        **manifest,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**manifest["spec"], "strategy": strategy},
    }


def _query_capacity(
    cluster: Cluster, kube_deployment: KubeDeployment, own_pods: Sequence[Pod]
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
    template = kube_deployment.template
    metadata = {**template.metadata, "namespace": kube_deployment.namespace}
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


def _refusal_error(function: Function, capacity: Capacity, replicas: int) -> PreconditionError:
    name = function.metadata.name
    if capacity.instead:
        text = f"the nodes have room for {capacity.instead} of {replicas} replicas"
        hint = f"`--replicas {capacity.instead}`; or make room: `kubectl describe nodes`"
    else:
        text, hint = capacity.shortage.text, capacity.shortage.hint
    return PreconditionError(f"{name} cannot run, and nothing was changed: {text}", hint=hint)
