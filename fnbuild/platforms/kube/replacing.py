"""Replacement of a function's pods, depending on the free capacity of the nodes.

The pods of a function with a GPU are replaced with a gap by default, because the old pod may hold
the only GPU (`pods.strategy`). If another GPU is free, or if the old pod holds none, the new pod
starts beside the old one. If no node could run the new pod at all, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from fnbuild.errors import PreconditionError
from fnbuild.platforms import Manifest
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import ForbiddenError
from fnbuild.platforms.kube import asking, scaling
from fnbuild.platforms.kube.capacity import Room, gpus_of, room
from fnbuild.platforms.kube.labels import OVERLAP
from fnbuild.platforms.settings import needs_gpu
from fnbuild.spec.types import Function, Raw

Way = Literal["as-configured", "beside", "gap"]
"""`beside`: the Deployment's strategy has a gap, but this rollout needs none. `gap`: the old pods
end first. `as-configured`: the Deployment's own strategy applies.
"""

_RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
_AUTOSCALER = ("kube-system", "cluster-autoscaler-status")


@dataclass(frozen=True, slots=True)
class Replacement:
    """The way of the replacement, and the error if a deploy has to be refused."""

    way: Way = "as-configured"
    refusal: PreconditionError | None = None


def decide(
    cluster: Cluster, function: Function, wanted: Raw, live: Raw | None, pods: Sequence[Raw]
) -> Replacement:
    """Choose the way from the Deployment `live` to the Deployment `wanted`.

    `pods` are those of the function. If this user may not list nodes or other pods, the scheduler
    decides.
    """
    recreates = (wanted["spec"].get("strategy") or {}).get("type") == "Recreate"
    replicas = scaling.bounds(function)[0]
    if not replicas or not (recreates or needs_gpu(function)):
        return Replacement()
    new_pods = live is None or live["spec"]["template"] != wanted["spec"]["template"]
    own = [pod for pod in pods if (pod.get("status") or {}).get("phase") != "Failed"]
    if not new_pods and len(own) >= replicas:
        return Replacement()
    free = _room(cluster, wanted, own)
    if free is not None and free.instead < replicas and not _adds_nodes(cluster):
        return Replacement(refusal=_refusal(function, free, replicas))
    if recreates and new_pods and own:
        return Replacement(_way(function, free, own))
    return Replacement()


def _way(function: Function, free: Room | None, own: Sequence[Raw]) -> Way:
    if function.spec.deployment_strategy:
        return "gap"  # chosen for other reasons, such as a volume that only one pod can mount
    if free is None:
        return "gap" if any(map(gpus_of, own)) else "beside"
    # If a pod fits in neither case, the cluster adds a node for the pending pod.
    return "beside" if free.beside or not free.instead else "gap"


def overlapping(deployment: Manifest) -> Manifest:
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


def _room(cluster: Cluster, wanted: Raw, own: Sequence[Raw]) -> Room | None:
    """Return the room for pods of the Deployment, or None without the rights to determine it."""
    with ThreadPoolExecutor(2) as pool:
        nodes = pool.submit(asking.nodes_of, cluster)
        pods = pool.submit(_running, cluster)
        if (there := nodes.result()) is None:
            return None
        every = pods.result()
    template: Raw = wanted["spec"]["template"]
    pod: dict[str, Any] = {
        "metadata": {**template["metadata"], "namespace": wanted["metadata"]["namespace"]},
        "spec": template["spec"],
    }
    names = [str(old["metadata"]["name"]) for old in own]
    free = room(pod, there, every or (), names)
    # Without the list of other pods, only a pod that never fits can be recognized.
    return free if every is not None or not free.instead else None


def _running(cluster: Cluster) -> list[Raw] | None:
    try:
        return cluster.list(kinds.POD, None, fields=_RUNNING)
    except ForbiddenError:
        return None


def _adds_nodes(cluster: Cluster) -> bool:
    """Return True if the cluster may add a node for a pod that no node takes."""
    if cluster.serves(kinds.KARPENTER_NODE_POOL):
        return True
    try:
        return cluster.get(kinds.CONFIG_MAP, *_AUTOSCALER) is not None
    except ForbiddenError:
        return False


def _refusal(function: Function, free: Room, replicas: int) -> PreconditionError:
    name = function.metadata.name
    if free.instead:
        text = f"the nodes have room for {free.instead} of {replicas} replicas"
        hint = f"`--replicas {free.instead}`; or make room: `kubectl describe nodes`"
    else:
        text, hint = free.shortage.text, free.shortage.hint
    return PreconditionError(f"{name} cannot run, and nothing was changed: {text}", hint=hint)
