"""Availability of several replicas: spread over nodes, and a disruption budget."""

from __future__ import annotations

from fnbuild.platforms.cluster.kinds import Kind
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.kube.scaling import bounds
from fnbuild.spec.types import Function, Raw


def spread(made: Made, function: Function) -> list[Raw]:
    """Return topology spread constraints; none if the function has an affinity or a node name.

    A single replica has them too. If the template depended on the number of replicas, every change
    of that number would restart the pods.
    """
    if function.spec.affinity or function.spec.node_name:
        return []
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": made.key.selector},
        }
    ]


def disruption_budget(made: Made, function: Function, kind: Kind) -> Raw | None:
    """Return a PodDisruptionBudget that allows one pod to be unavailable at a time.

    Return None for a single replica: a budget would prevent its node from being drained.
    """
    if bounds(function)[1] < 2:
        return None
    return {
        "apiVersion": kind.api,
        "kind": kind.name,
        "metadata": made.metadata(),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": made.key.selector}},
    }
