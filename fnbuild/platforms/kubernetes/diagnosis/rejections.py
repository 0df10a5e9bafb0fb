"""Objects that the API server rejects: pods by quota or policy, manifests by their fields.

Both are explained in terms of function.yaml.
"""

from __future__ import annotations

import re

from fnbuild.errors import ForbiddenError, InputError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import InvalidFieldsError
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.pod_status import PodFinding, join_words

_FORBIDDEN_PREFIX = re.compile(
    r'^(?:\(combined from similar events\): )?(?:Error creating: )?pods "[^"]*" is forbidden: '
)
_POD = re.compile(r'pods "([^"]*)"')
_ERROR_PREFIX = re.compile(r"^(?:\(combined from similar events\): )?(?:Error creating: )?")
_QUOTA = re.compile(
    r"exceeded quota: (\S+), requested: (.+?), used: (.+?), limited: (.+)$", re.DOTALL
)
_UNSPECIFIED = re.compile(r"failed quota: (\S+): must specify (.+)$")
_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found')
_PRIORITY = re.compile(r"no PriorityClass with name (\S+) was found")
_POLICY = re.compile(r'violates PodSecurity "([^":]+)[^"]*": (.+)$', re.DOTALL)
_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request:? ?(.*)$', re.DOTALL)
_LIMIT = re.compile(r"(?:maximum|minimum) \S+ usage per (?:Container|Pod) is ")

_NODE_PORT_TAKEN = re.compile(r"Invalid value: (\d+): provided port is already allocated")
_POD_SPEC = r"spec\.template\.spec\."
_OTHER_CONTAINERS = rf"{_POD_SPEC}containers\[(?!0\]|name=\"{CONTAINER}\")"
_CONTAINER_FIELD = rf"{_POD_SPEC}containers\[[^\]]*\]\."

# By kind of object: a pattern of the field, its key in function.yaml, whether the rest is the same.
_FUNCTION_KEYS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "Deployment": (
        (rf"{_POD_SPEC}initContainers", "spec.initContainers", False),
        (_OTHER_CONTAINERS, "spec.sidecars", False),
        (rf"{_CONTAINER_FIELD}env\b", "spec.env", False),
        (rf"{_CONTAINER_FIELD}envFrom", "spec.envFrom", False),
        (rf"{_CONTAINER_FIELD}volumeMounts", "spec.volumes", False),
        (rf"{_CONTAINER_FIELD}resources", "spec.resources", True),
        (rf"{_CONTAINER_FIELD}imagePullPolicy", "spec.imagePullPolicy", True),
        (rf"{_POD_SPEC}volumes", "spec.volumes", False),
        (rf"{_POD_SPEC}imagePullSecrets", "spec.imagePullSecrets", False),
        (rf"{_POD_SPEC}serviceAccount(Name)?", "spec.serviceAccount", True),
        (
            rf"{_POD_SPEC}(?P<same>securityContext|nodeSelector|nodeName|affinity|tolerations"
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


def explain_pod_rejection(message: str, namespace: str) -> PodFinding:
    """Explain a failed creation of pods. The finding is fatal."""
    text = _ERROR_PREFIX.sub("", _FORBIDDEN_PREFIX.sub("", message)).strip()
    return _explain(text, namespace).with_fatal(fatal=True)


def rejected_pod(message: str, default: str) -> str:
    """Return the name (or prefix) of the rejected pod, or `default` if the message has none."""
    match = _POD.search(message)
    return match[1] if match else default


def _explain(text: str, namespace: str) -> PodFinding:  # noqa: PLR0911 (one per kind of refusal)
    if quota := _QUOTA.search(text):
        name, requested, used, limited = quota.groups()
        return PodFinding(
            f"the quota {name} of namespace {namespace} does not allow another pod"
            f" ({requested} more, {used} used, {limited} allowed)",
            "a rollout needs room for one more pod beside the old ones, unless"
            " spec.deploymentStrategy is `type: Recreate`;"
            f" `kubectl describe quota -n {namespace}` shows what is used",
        )
    if unspecified := _UNSPECIFIED.search(text):
        return PodFinding(
            f"the quota {unspecified[1]} of namespace {namespace} demands {unspecified[2]}",
            "set them in spec.resources",
        )
    if _LIMIT.search(text):
        return PodFinding(
            f"a limit range of namespace {namespace} refuses its resources: {text}",
            f"change spec.resources; `kubectl describe limitrange -n {namespace}` shows what fits",
        )
    if account := _ACCOUNT.search(text):
        return PodFinding(
            f"the service account {account[1]} does not exist",
            f"`kubectl create serviceaccount {account[1]} -n {namespace}`, or correct"
            " spec.serviceAccount",
        )
    if priority := _PRIORITY.search(text):
        return PodFinding(
            f"there is no priority class {priority[1]}",
            "`kubectl get priorityclasses` lists those there are; see spec.priorityClassName",
        )
    if policy := _POLICY.search(text):
        return PodFinding(
            f"the pod security level {policy[1]} of namespace {namespace} refuses it: {policy[2]}",
            "`--hardened` keeps to the level `restricted`",
        )
    if webhook := _WEBHOOK.search(text):
        return PodFinding(
            f"the cluster's policy {webhook[1]} refuses it: {webhook[2] or 'no reason'}"
        )
    return PodFinding(f"the cluster refuses its pods: {text}")


def explain_invalid_fields(
    cluster: Cluster, function: Function, manifest: Raw, error: InvalidFieldsError
) -> InputError:
    """Return the error with the keys of the function that cause it, as far as they are known."""
    origins = (config_key_of_field(function, manifest["kind"], field) for field in error.fields)
    keys = list(dict.fromkeys(filter(None, origins)))
    if not keys:
        return error
    if taken := _NODE_PORT_TAKEN.search(error.message):
        number = int(taken[1])
        return InputError(
            f"node port {number} is taken by {_node_port_holder(cluster, manifest, number)}",
            hint=f"use another number in {keys[0]}, or none: the cluster then chooses one",
        )
    origin = f"the function sets it in {join_words(keys)}"
    return InputError(error.message, hint=f"{origin}; {error.hint}" if error.hint else origin)


def config_key_of_field(function: Function, kind: str, field: str) -> str:
    """Return the key of the function that determines a field, as in `spec.env`, or ""."""
    field = field.removeprefix(".")
    trigger = function.http_trigger()
    http = f"spec.triggers.{trigger[0]}.attributes" if trigger else "spec.triggers"
    for pattern, key, keeps_rest in _FUNCTION_KEYS.get(kind, ()):
        if match := re.match(pattern, field):
            shared = match.groupdict().get("same") or ""
            rest = field[match.end() :] if keeps_rest else ""
            return key.format(http=http) + shared + rest
    return ""


def _node_port_holder(cluster: Cluster, manifest: Raw, number: int) -> str:
    """Describe the Service with the node port, as far as this user may see it."""
    namespace = manifest["metadata"]["namespace"]
    for scope in (None, namespace):
        try:
            services = cluster.list(kinds.SERVICE, scope)
        except ForbiddenError:
            continue
        for service in services:
            if any(port.get("nodePort") == number for port in service["spec"].get("ports") or []):
                metadata = service["metadata"]
                return f"service {metadata['name']} of namespace {metadata['namespace']}"
        break
    return "a service that this user may not see"
