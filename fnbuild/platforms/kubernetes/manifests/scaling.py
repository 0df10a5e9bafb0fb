"""The number of a function's pods: replicas, autoscaler, spread over nodes, disruption budget.

The rules are Nuclio's (pkg/functionconfig/types.go, pkg/platform/kube/functionres/lazy.go), except
for scale to zero: without KEDA (see `keda`) nothing wakes a function without pods, so the minimum
of the autoscaler is 1.
"""

from __future__ import annotations

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient.kinds import HPA_V1, Kind
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord

CPU_REQUESTS = {"cpu": "500m", "memory": "256Mi"}
"""Default requests of pods that an autoscaler scales by CPU. It compares usage with the request,
and every event would exceed the usual 25m.
"""

_DEFAULT_TARGET_CPU = 75


def replica_bounds(function: Function) -> tuple[int, int]:
    """Return the minimum and maximum number of pods; both are 0 for a disabled function."""
    spec = function.spec
    if spec.disable:
        return 0, 0
    if spec.replicas is not None:
        return spec.replicas, spec.replicas
    minimum, maximum = spec.min_replicas, spec.max_replicas
    if minimum is None:
        minimum = 1 if maximum is None else maximum
    if maximum is None:
        maximum = minimum
    return (minimum if maximum == 0 else max(1, minimum)), maximum


def has_autoscaler(function: Function) -> bool:
    """Return True if an autoscaler sets the number of pods."""
    minimum, maximum = replica_bounds(function)
    return minimum != maximum


def deployment_replicas(
    function: Function, live_replicas: int | None, *, to_zero: bool = False
) -> int | None:
    """Return the replicas of the Deployment, or None to leave them to the autoscaler.

    `live_replicas` is set while an autoscaler takes over, so that the number does not drop to 1.
    With `to_zero`, KEDA is the autoscaler, of functions with a maximum of 1 as well.
    """
    minimum, maximum = replica_bounds(function)
    if minimum == maximum and not to_zero:
        return minimum
    return None if live_replicas is None else min(max(live_replicas, minimum), maximum)


def scales_by_cpu(function: Function) -> bool:
    """Return True if an autoscaler compares the pods' CPU usage with their requests."""
    return has_autoscaler(function) and not uses_custom_metrics(function)


def uses_custom_metrics(function: Function) -> bool:
    """Return True if the autoscaler uses other metrics than CPU, which autoscaling/v1 cannot."""
    spec = function.spec
    return bool(spec.custom_scaling_metric_specs or spec.auto_scale_metrics)


def autoscaler(revision: RevisionRecord, function: Function, kind: Kind) -> Raw:
    """Return the HorizontalPodAutoscaler in the version of a kind.

    Raises `InputError` for metrics that the kind does not support.
    """
    minimum, maximum = replica_bounds(function)
    spec: Raw = {
        "scaleTargetRef": scale_target(revision),
        "minReplicas": minimum,
        "maxReplicas": maximum,
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
        spec["metrics"] = _metrics(revision, function)
    return kind.manifest(revision.metadata(), spec=spec)


def scale_target(revision: RevisionRecord) -> Raw:
    """Return the reference to the Deployment of an object that scales it."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision.key.object_name}


def _target_cpu(function: Function) -> int:
    return function.spec.target_cpu or _DEFAULT_TARGET_CPU


def _metrics(revision: RevisionRecord, function: Function) -> list[Raw]:
    """Return the custom metrics, or else Nuclio's, or else CPU; v2 and v2beta2 have one form."""
    spec = function.spec
    if spec.custom_scaling_metric_specs:
        return spec.custom_scaling_metric_specs
    if spec.auto_scale_metrics:
        return [_custom_metric(revision, metric) for metric in spec.auto_scale_metrics]
    return [
        _resource_metric(
            "cpu", {"type": "Utilization", "averageUtilization": _target_cpu(function)}
        )
    ]


def _resource_metric(name: str, target: Raw) -> Raw:
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _custom_metric(revision: RevisionRecord, settings: Raw) -> Raw:
    """Return an entry of `spec.autoScaleMetrics` (metricName, windowSize, threshold, …).

    Metrics other than those of Kubernetes include the window in their names, as in Nuclio:
    `requests_per_1m` (scaler-types: GetKubernetesMetricName).
    """
    source, name = str(settings.get("sourceType") or ""), str(settings.get("metricName") or "")
    threshold = settings.get("threshold") or 0
    average: Raw = {"type": "AverageValue", "averageValue": str(threshold)}
    if settings.get("displayType") == "percentage":
        average = {"type": "Utilization", "averageUtilization": threshold}
    if source == "Resource":
        return _resource_metric(name, average)
    if source == "ContainerResource":
        target = {"name": name, "container": CONTAINER, "target": average}
        return {"type": source, "containerResource": target}
    window = settings.get("windowSize")
    metric = {"name": f"{name}_per_{window}" if window else name}
    target = {"type": "AverageValue", "averageValue": str(threshold)}
    if source == "Object":
        value = {"type": "Value", "value": str(threshold)}
        object_metric = {
            "describedObject": scale_target(revision),
            "metric": metric,
            "target": value,
        }
        return {"type": source, "object": object_metric}
    if source in ("Pods", "External"):
        return {"type": source, source.lower(): {"metric": metric, "target": target}}
    raise InputError(
        f"spec.autoScaleMetrics: {source!r} is no source of the metric {name!r}",
        hint="one of: Resource, ContainerResource, Pods, Object, External",
    )


def topology_spread(revision: RevisionRecord, function: Function) -> list[Raw]:
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
            "labelSelector": {"matchLabels": revision.key.pod_selector},
        }
    ]


def disruption_budget(revision: RevisionRecord, function: Function, kind: Kind) -> Raw | None:
    """Return a PodDisruptionBudget that allows one pod to be unavailable at a time.

    Return None for a single replica: a budget would prevent its node from being drained.
    """
    if replica_bounds(function)[1] < 2:
        return None
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": revision.key.pod_selector}}
    return kind.manifest(revision.metadata(), spec=spec)
