"""The number of a function's pods: replicas, autoscaler, spread over nodes, disruption budget.

The rules are Nuclio's (pkg/functionconfig/types.go, pkg/platform/kube/functionres/lazy.go), except
for scale to zero: nothing here wakes a function without pods, so the minimum is 1.
"""

from __future__ import annotations

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient.kinds import HPA_V1, Kind
from fnbuild.platforms.kubernetes.labels import CONTAINER, RevisionRecord

CPU_REQUESTS = {"cpu": "500m", "memory": "256Mi"}
"""Default requests of pods that an autoscaler scales by CPU. It compares usage with the request,
and every event would exceed the usual 25m.
"""

_DEFAULT_TARGET_CPU = 75


def replica_bounds(function: Function) -> tuple[int, int]:
    """The least and the most pods; both 0 for a function that is stopped by hand."""
    spec = function.spec
    if spec.disable:
        return 0, 0
    if spec.replicas is not None:
        return spec.replicas, spec.replicas
    least, most = spec.min_replicas, spec.max_replicas
    if least is None:
        least = 1 if most is None else most
    if most is None:
        most = least
    return (least if most == 0 else max(1, least)), most


def has_autoscaler(function: Function) -> bool:
    """Whether an autoscaler decides how many there are."""
    least, most = replica_bounds(function)
    return least != most


def deployment_replicas(function: Function, live: int | None) -> int | None:
    """The number that the Deployment asks for; None leaves it to the autoscaler.

    `live` is there while an autoscaler takes over: the number must not fall back to 1 meanwhile.
    """
    least, most = replica_bounds(function)
    if least == most:
        return least
    return None if live is None else min(max(live, least), most)


def scales_by_cpu(function: Function) -> bool:
    """Return True if an autoscaler compares the pods' CPU usage with their requests."""
    return has_autoscaler(function) and not uses_custom_metrics(function)


def uses_custom_metrics(function: Function) -> bool:
    """Whether the autoscaler looks at more than CPU, which its first version cannot."""
    spec = function.spec
    return bool(spec.custom_scaling_metric_specs or spec.auto_scale_metrics)


def autoscaler(made: RevisionRecord, function: Function, kind: Kind) -> Raw:
    """The HorizontalPodAutoscaler in the form of a kind.

    Raises `InputError` for metrics that the kind does not know.
    """
    least, most = replica_bounds(function)
    spec: Raw = {
        "scaleTargetRef": _scale_target(made),
        "minReplicas": least,
        "maxReplicas": most,
    }
    if kind == HPA_V1:
        if uses_custom_metrics(function):
            raise InputError(
                "the cluster scales by CPU alone, and the function names other metrics",
                hint="without spec.autoScaleMetrics and spec.customScalingMetricSpecs,"
                " spec.targetCPU decides",
            )
        spec["targetCPUUtilizationPercentage"] = _target_cpu(function)
    else:
        spec["metrics"] = _metrics(made, function)
    return {"apiVersion": kind.api, "kind": kind.name, "metadata": made.metadata(), "spec": spec}


def _scale_target(made: RevisionRecord) -> Raw:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": made.key.object}


def _target_cpu(function: Function) -> int:
    return function.spec.target_cpu or _DEFAULT_TARGET_CPU


def _metrics(made: RevisionRecord, function: Function) -> list[Raw]:
    """As they are given; else Nuclio's metrics; else CPU. The forms of v2 and v2beta2 are one."""
    spec = function.spec
    if spec.custom_scaling_metric_specs:
        return spec.custom_scaling_metric_specs
    if spec.auto_scale_metrics:
        return [_custom_metric(made, one) for one in spec.auto_scale_metrics]
    return [
        _resource_metric(
            "cpu", {"type": "Utilization", "averageUtilization": _target_cpu(function)}
        )
    ]


def _resource_metric(name: str, target: Raw) -> Raw:
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _custom_metric(made: RevisionRecord, given: Raw) -> Raw:
    """One of `spec.autoScaleMetrics`: metricName, windowSize, threshold, sourceType, displayType.

    Metrics that are not of Kubernetes itself have the window in their names, as Nuclio's own have:
    `requests_per_1m` (scaler-types: GetKubernetesMetricName).
    """
    source, name = str(given.get("sourceType") or ""), str(given.get("metricName") or "")
    threshold = given.get("threshold") or 0
    average: Raw = {"type": "AverageValue", "averageValue": str(threshold)}
    if given.get("displayType") == "percentage":
        average = {"type": "Utilization", "averageUtilization": threshold}
    if source == "Resource":
        return _resource_metric(name, average)
    if source == "ContainerResource":
        target = {"name": name, "container": CONTAINER, "target": average}
        return {"type": source, "containerResource": target}
    window = given.get("windowSize")
    metric = {"name": f"{name}_per_{window}" if window else name}
    target = {"type": "AverageValue", "averageValue": str(threshold)}
    if source == "Object":
        value = {"type": "Value", "value": str(threshold)}
        about = {"describedObject": _scale_target(made), "metric": metric, "target": value}
        return {"type": source, "object": about}
    if source in ("Pods", "External"):
        return {"type": source, source.lower(): {"metric": metric, "target": target}}
    raise InputError(
        f"spec.autoScaleMetrics: {source!r} is no source of the metric {name!r}",
        hint="one of: Resource, ContainerResource, Pods, Object, External",
    )


def topology_spread(made: RevisionRecord, function: Function) -> list[Raw]:
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


def disruption_budget(made: RevisionRecord, function: Function, kind: Kind) -> Raw | None:
    """Return a PodDisruptionBudget that allows one pod to be unavailable at a time.

    Return None for a single replica: a budget would prevent its node from being drained.
    """
    if replica_bounds(function)[1] < 2:
        return None
    return {
        "apiVersion": kind.api,
        "kind": kind.name,
        "metadata": made.metadata(),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": made.key.selector}},
    }
