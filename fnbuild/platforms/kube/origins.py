"""What the API server does not take of an object, told by keys of the function that it is from."""

from __future__ import annotations

import re

from fnbuild.errors import InputError
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.faults import FieldsError, ForbiddenError
from fnbuild.platforms.kube.findings import listed
from fnbuild.platforms.kube.labels import CONTAINER
from fnbuild.spec.types import Function, Raw

_TAKEN = re.compile(r"Invalid value: (\d+): provided port is already allocated")
_POD = r"spec\.template\.spec\."
_OTHERS = rf"{_POD}containers\[(?!0\]|name=\"{CONTAINER}\")"
_OWN = rf"{_POD}containers\[[^\]]*\]\."

# By kind of object: what a field begins with, the key that it is from, whether the rest is alike.
_KEYS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "Deployment": (
        (rf"{_POD}initContainers", "spec.initContainers", False),
        (_OTHERS, "spec.sidecars", False),
        (rf"{_OWN}env\b", "spec.env", False),
        (rf"{_OWN}envFrom", "spec.envFrom", False),
        (rf"{_OWN}volumeMounts", "spec.volumes", False),
        (rf"{_OWN}resources", "spec.resources", True),
        (rf"{_OWN}imagePullPolicy", "spec.imagePullPolicy", True),
        (rf"{_POD}volumes", "spec.volumes", False),
        (rf"{_POD}imagePullSecrets", "spec.imagePullSecrets", False),
        (rf"{_POD}serviceAccount(Name)?", "spec.serviceAccount", True),
        (
            rf"{_POD}(?P<same>securityContext|nodeSelector|nodeName|affinity|tolerations"
            r"|priorityClassName|preemptionPolicy|hostIPC)",
            "spec.",
            True,
        ),
        (r"spec\.strategy", "spec.deploymentStrategy", True),
        (r"spec\.replicas", "spec.replicas", True),
        (r"(spec\.template\.)?metadata\.(?P<same>labels|annotations)", "metadata.", False),
    ),
    "Service": (
        (r"spec\.ports\[0\]", "{http}.port", False),
        (r"spec\.ports", "spec.sidecars", False),
    ),
    "Ingress": (
        (r"spec\.ingressClassName", "{http}.ingressClassName", True),
        (r"spec", "{http}.ingresses", False),
    ),
    "HorizontalPodAutoscaler": (
        (r"spec\.(?P<same>minReplicas|maxReplicas)", "spec.", True),
        (r"spec\.targetCPUUtilizationPercentage", "spec.targetCPU", True),
        (r"spec\.metrics", "spec.customScalingMetricSpecs", False),
    ),
    "CronJob": ((r"spec\.schedule", "spec.triggers", False),),
}


def explained(
    cluster: Cluster, function: Function, manifest: Raw, error: FieldsError
) -> InputError:
    """The refusal with what to change in the function, as far as that can be told."""
    origins = (origin(function, manifest["kind"], field) for field in error.fields)
    keys = list(dict.fromkeys(filter(None, origins)))
    if not keys:
        return error
    if taken := _TAKEN.search(error.message):
        number = int(taken[1])
        return InputError(
            f"node port {number} is taken by {_holder(cluster, manifest, number)}",
            hint=f"another number in {keys[0]}, or none: the cluster chooses one, which stays",
        )
    words = f"the function asks for it in {listed(keys)}"
    return InputError(error.message, hint=f"{words}; {error.hint}" if error.hint else words)


def origin(function: Function, kind: str, field: str) -> str:
    """The key of the function that a field of an object is from, as in `spec.env`; "" for none."""
    field = field.removeprefix(".")
    trigger = function.http_trigger()
    http = f"spec.triggers.{trigger[0]}.attributes" if trigger else "spec.triggers"
    for begins, key, alike in _KEYS.get(kind, ()):
        if found := re.match(begins, field):
            same = found.groupdict().get("same") or ""
            rest = field[found.end() :] if alike else ""
            return key.format(http=http) + same + rest
    return ""


def _holder(cluster: Cluster, manifest: Raw, number: int) -> str:
    """Which service has the node port, as far as it can be seen."""
    namespace = manifest["metadata"]["namespace"]
    for place in (None, namespace):
        try:
            services = cluster.list(kinds.SERVICE, place)
        except ForbiddenError:
            continue
        for one in services:
            if any(port.get("nodePort") == number for port in one["spec"].get("ports") or []):
                about = one["metadata"]
                return f"service {about['name']} of namespace {about['namespace']}"
        break
    return "a service that is not to be seen from here"
