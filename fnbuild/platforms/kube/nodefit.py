"""Eligibility of nodes for a pod, apart from free capacity: node name, labels and taints."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping

from fnbuild.spec.types import Raw

_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NAMED = "node(s) didn't match the requested node name"
_CLOSED = "node(s) were unschedulable"


def obstacle(node: Raw, spec: Raw) -> str:
    """Return the scheduler's reason to keep a pod with this spec off the node, or ""."""
    metadata = node["metadata"]
    if spec.get("nodeName") not in (None, "", metadata["name"]):
        return _NAMED
    labels: Mapping[str, str] = metadata.get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match node selector"
    if not _has_affinity(node, spec):
        return "node(s) didn't match Pod's node affinity"
    # A pod that names its node bypasses the scheduler.
    return "" if spec.get("nodeName") else _taints(node, spec.get("tolerations") or [])


def _taints(node: Raw, tolerations: list[Raw]) -> str:
    spec = node.get("spec") or {}
    if spec.get("unschedulable") and not _tolerates(tolerations, _UNSCHEDULABLE):
        return _CLOSED
    for taint in spec.get("taints") or []:
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


def _has_affinity(node: Raw, spec: Raw) -> bool:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(_matches(labels, requirement) for requirement in term.get("matchExpressions") or [])
        and all(_matches(fields, requirement) for requirement in term.get("matchFields") or [])
        for term in required.get("nodeSelectorTerms") or []
    )


def _matches(labels: Mapping[str, str], requirement: Raw) -> bool:
    """Evaluate a node selector requirement."""
    value, values = labels.get(requirement["key"]), requirement.get("values") or []
    compare = _OPERATORS.get(str(requirement.get("operator")))
    # The scheduler of a later Kubernetes may know more operators.
    return compare is None or compare(value, values)


def _number(compare: Callable[[int, int], bool]) -> Callable[[str | None, list[str]], bool]:
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
    "Gt": _number(operator.gt),
    "Lt": _number(operator.lt),
}
