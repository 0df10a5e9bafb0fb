"""The pod template of a function: containers, volumes, security contexts, metrics discovery.

It follows Nuclio (pkg/platform/kube/functionres/lazy.go), with its names, ports and probes. The
same function always has the same template, so that an unchanged deploy restarts no pod.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fnbuild.builder.processor_settings import (
    DRAIN_SECONDS,
    processor_settings,
    termination_seconds,
)
from fnbuild.errors import InputError
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import EnvVar, Function, Raw
from fnbuild.platforms.kubeclient.kinds import POD_MONITOR
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.labels import CONTAINER, RevisionRecord
from fnbuild.platforms.kubernetes.manifests import scaling
from fnbuild.platforms.kubernetes.manifests.scaling import topology_spread
from fnbuild.platforms.processor_status import ADMIN_PORT
from fnbuild.platforms.settings import needs_gpu

HTTP_PORT_NAME = "http"
HTTP_PORT = 8080

_LINGER_SECONDS = 5.0
_SHORT_LINGER_SECONDS = 1.0
_STOP_MARGIN_SECONDS = 5
_SERVICE_ATTRIBUTES = (
    "port",
    "serviceType",
    "disablePortPublishing",
    "ingresses",
    "ingressClassName",
)
_MINIMAL_REQUESTS = {"cpu": "25m", "memory": "1Mi"}


def pod_template(
    made: RevisionRecord, function: Function, pull_secret: str, *, cron_jobs: bool
) -> Raw:
    """What a Deployment has as `spec.template`. With `cron_jobs` the cron triggers run elsewhere.

    Raises `InputError` for values that cannot work.
    """
    linger = _linger_seconds(function)
    processor = _processor_config(function, linger, cron_jobs=cron_jobs)
    return {
        "metadata": {
            "labels": made.labels(),
            "annotations": SCRAPE_ANNOTATIONS | made.pod_annotations(processor),
        },
        "spec": _pod_spec(made, function, pull_secret, _stop_seconds(function, linger)),
    }


def deployment_strategy(made: RevisionRecord, function: Function) -> Raw:
    """New pods before old ones go; with GPUs the reverse, for the old pod holds the one there is.

    Nuclio does the same with GPUs and leaves the rest to Kubernetes, which may take a quarter of
    the old pods away first.
    """
    if function.spec.deployment_strategy:
        return function.spec.deployment_strategy
    if needs_gpu(function) and not made.overlap:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}


def _linger_seconds(function: Function) -> float:
    """Return the seconds for which an ending pod serves callers that do not know of its end yet.

    Where the next pod always waits for that end it only makes the gap longer. A pod with a GPU may
    well be replaced by one beside it (`replacing`), and its template cannot tell.
    """
    recreates = (function.spec.deployment_strategy or {}).get("type") == "Recreate"
    return _SHORT_LINGER_SECONDS if recreates else _LINGER_SECONDS


def _processor_config(function: Function, linger: float, *, cron_jobs: bool) -> Raw:
    """The processor's configuration, without the revision and what concerns the Service alone: such
    a change restarts nothing.
    """
    # Before its workers are ready nobody answers the readiness probe, behind a failure either.
    found = processor_settings(function, 0) | {"linger": linger, "accept": "when-ready"}
    found["triggers"] = {
        name: {**one, "attributes": _without_service_attributes(one["attributes"])}
        for name, one in found["triggers"].items()
        if one["kind"] != "cron" or not cron_jobs
    }
    return found


def _without_service_attributes(attributes: Raw) -> Raw:
    return {name: value for name, value in attributes.items() if name not in _SERVICE_ATTRIBUTES}


def _stop_seconds(function: Function, linger: float) -> int:
    """How long a pod may take to end what it has in hand, in seconds."""
    longest = max(DRAIN_SECONDS, termination_seconds(function))
    return math.ceil(linger + longest) + _STOP_MARGIN_SECONDS


def _pod_spec(made: RevisionRecord, function: Function, pull_secret: str, stop_seconds: int) -> Raw:
    spec = function.spec
    volumes = function_volumes(function)
    # Named even where it is the default one: an account that was taken away would stay otherwise,
    # in the older field that the API server keeps beside this one.
    pod: Raw = {"serviceAccountName": spec.service_account or "default"}
    if not spec.service_account:
        pod["automountServiceAccountToken"] = False
    # One variable for each port of each service of the namespace would be in the environment.
    pod["enableServiceLinks"] = False
    pod |= placement(function, pull_secret)
    if constraints := topology_spread(made, function):
        pod["topologySpreadConstraints"] = constraints
    if spec.host_ipc:
        pod["hostIPC"] = True
    pod["securityContext"] = pod_security_context(function)
    pod["terminationGracePeriodSeconds"] = stop_seconds
    if spec.init_containers:
        pod["initContainers"] = [_extra_container(function, one) for one in spec.init_containers]
    pod["containers"] = [
        _function_container(made, function, volumes.mounts),
        *(_extra_container(function, one) for one in spec.sidecars),
    ]
    pod["volumes"] = list(volumes.volumes)
    return pod


def placement(function: Function, pull_secret: str) -> Raw:
    """Where pods of the function may run and how they come to its image."""
    spec = function.spec
    secret = spec.image_pull_secrets or pull_secret
    given: Raw = {
        "imagePullSecrets": [{"name": secret}] if secret else [],
        "nodeName": spec.node_name,
        "nodeSelector": dict(spec.node_selector),
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "priorityClassName": spec.priority_class_name,
        "preemptionPolicy": spec.preemption_policy,
    }
    return {name: value for name, value in given.items() if value}


def pull_policy(made: RevisionRecord, function: Function) -> str:
    """The function's own; else a name that may move is asked for at every start, as in Nuclio."""
    exact = made.pinned or "@" in made.runs
    return function.spec.image_pull_policy or ("IfNotPresent" if exact else "Always")


def _function_container(made: RevisionRecord, function: Function, mounts: Iterable[Raw]) -> Raw:
    spec = function.spec
    container: Raw = {
        "name": CONTAINER,
        "image": made.runs,
        "imagePullPolicy": pull_policy(made, function),
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": METRICS_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "env": environment(function),
    }
    if spec.env_from:
        container["envFrom"] = spec.env_from
    return container | {
        "resources": resources(function),
        "readinessProbe": {
            "httpGet": {"path": "/__internal/health", "port": HTTP_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 10,
        },
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": ADMIN_PORT},
            "initialDelaySeconds": 10,
            "periodSeconds": 5,
            "timeoutSeconds": 3,
        },
        "securityContext": function_security_context(function),
        "volumeMounts": list(mounts),
    }


def environment(function: Function) -> list[Raw]:
    """The function's variables and Nuclio's own, each name once: as in Nuclio, the last wins."""
    own: list[Raw] = [
        {"name": "NUCLIO_FUNCTION_NAME", "value": function.metadata.name},
        {"name": "NUCLIO_FUNCTION_VERSION", "value": "latest"},
        {
            "name": "NUCLIO_FUNCTION_INSTANCE",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        },
    ]
    given = [_variable(one) for one in function.spec.env]
    return list({one["name"]: one for one in [*given, *own]}.values())


def _variable(one: EnvVar) -> Raw:
    if one.value_from is not None:
        return {"name": one.name, "valueFrom": one.value_from}
    return {"name": one.name, "value": one.value}


def resources(function: Function) -> Raw:
    """Limits and requests, with Nuclio's least requests where neither says anything. An autoscaler
    that compares CPU with them needs more.
    """
    limits = dict(function.spec.resources.limits)
    usual = scaling.CPU_REQUESTS if scaling.scales_by_cpu(function) else _MINIMAL_REQUESTS
    least = {name: text for name, text in usual.items() if _is_within_limit(text, limits.get(name))}
    found = {"limits": limits, "requests": least | function.spec.resources.requests}
    return {name: value for name, value in found.items() if value}


def _is_within_limit(text: str, limit: str | None) -> bool:
    """Whether a request stays within its limit; above it, Kubernetes takes the limit for it."""
    return limit is None or parse_quantity(text) <= parse_quantity(limit)


def _extra_container(function: Function, container: Raw) -> Raw:
    """An init container or a sidecar, with the function's variables where it has not its own."""
    env: list[Raw] = container.get("env") or []
    names = {one.get("name") for one in env}
    merged = [*env, *(one for one in environment(function) if one["name"] not in names)]
    found = {**container, "env": merged}
    found["securityContext"] = extra_security_context(function, container)
    if container.get("ports"):
        found["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
    return found


PROCESSOR_VOLUME = "processor-config-volume"
"""Nuclio's name of the volume that holds the processor's configuration."""
_TMP_VOLUME = "fnbuild-tmp"
_TMP = "/tmp"  # noqa: S108 - inside the container


@dataclass(frozen=True, slots=True)
class Volumes:
    """The pod's volumes and the mounts of the function's container. `left_out` are the names of
    host paths, which are not mounted.
    """

    volumes: tuple[Raw, ...]
    mounts: tuple[Raw, ...]
    left_out: tuple[str, ...] = ()


def function_volumes(function: Function) -> Volumes:
    """The user's by name, as Nuclio orders them, then fnbuild's own.

    Paths of a node are left out, as in Nuclio (pkg/platform/kube/functionres/lazy.go): a pod may
    run on any node. Raises `InputError` where a volume or its mount is not whole.
    """
    volumes: dict[str, Raw] = {}
    mounts: list[Raw] = []
    left_out: list[str] = []
    for number, item in enumerate(function.spec.volumes):
        volume, mount = item.get("volume") or {}, item.get("volumeMount") or {}
        name = volume.get("name") or mount.get("name")
        if not name or not mount.get("mountPath"):
            raise InputError(
                f"spec.volumes[{number}] needs a name and a volumeMount.mountPath",
                hint="as in `volumeMount: {name: weights, mountPath: /weights}`",
            )
        if "hostPath" in volume:
            left_out.append(f"{name} ({(volume['hostPath'] or {}).get('path', '')})")
            continue
        own = name in (PROCESSOR_VOLUME, _TMP_VOLUME)
        if own or volumes.setdefault(name, {"name": name, **volume}) != {"name": name, **volume}:
            raise InputError(f"spec.volumes[{number}]: {name!r} is another volume already")
        mounts.append({"name": name, **mount})
    found = [volumes[name] for name in sorted(volumes)]
    mounts.sort(key=lambda mount: str(mount["name"]))
    if is_hardened(function) and not any(one["mountPath"] == _TMP for one in mounts):
        found.append({"name": _TMP_VOLUME, "emptyDir": {}})
        mounts.append({"name": _TMP_VOLUME, "mountPath": _TMP})
    found.append(_processor_volume())
    mounts.append(
        {"name": PROCESSOR_VOLUME, "mountPath": "/etc/nuclio/config/processor", "readOnly": True}
    )
    return Volumes(tuple(found), tuple(mounts), tuple(left_out))


def _processor_volume() -> Raw:
    """The configuration comes from the pod's own annotation, so that every pod keeps the one it
    was made with, however many revisions come after it.
    """
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{labels.PROCESSOR}']"}
    return {
        "name": PROCESSOR_VOLUME,
        "downwardAPI": {"items": [{"path": "processor.json", "fieldRef": field}]},
    }


METRICS_PORT_NAME = "metrics"
"""The name of the container's port."""

_METRICS_PATH = "/metrics"

SCRAPE_ANNOTATIONS = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(ADMIN_PORT),
    "prometheus.io/path": _METRICS_PATH,
}


def pod_monitor(made: RevisionRecord) -> Raw:
    """Return the object by which the Prometheus operator finds the pods."""
    return {
        "apiVersion": POD_MONITOR.api,
        "kind": POD_MONITOR.name,
        "metadata": made.metadata(),
        "spec": {
            "selector": {"matchLabels": made.key.selector},
            "podMetricsEndpoints": [{"port": METRICS_PORT_NAME, "path": _METRICS_PATH}],
        },
    }


_NOBODY = 65532
"""The user that images without root use by custom (distroless: `nonroot`)."""


def is_hardened(function: Function) -> bool:
    """`spec.platform.attributes.hardened`, which the flag `--hardened` sets."""
    return str(function.spec.platform.attributes.get("hardened")).lower() == "true"


def pod_security_context(function: Function) -> Raw:
    context: Raw = {"seccompProfile": {"type": "RuntimeDefault"}}
    if is_hardened(function):
        context |= {"runAsNonRoot": True, "runAsUser": _NOBODY}
    given = function.spec.security_context or {}
    if given.get("runAsUser") == 0:
        context.pop("runAsNonRoot", None)
    return context | given


def function_security_context(function: Function) -> Raw:
    """Of the function's own container."""
    read_only = {"readOnlyRootFilesystem": True} if is_hardened(function) else {}
    return _restricted_context(function) | read_only


def extra_security_context(function: Function, container: Raw) -> Raw:
    """Of an init container or a sidecar. What needs privileges would be refused without them."""
    given: Raw = container.get("securityContext") or {}
    added = (given.get("capabilities") or {}).get("add") or []
    if given.get("privileged") or "SYS_ADMIN" in added or "CAP_SYS_ADMIN" in added:
        return given
    return _restricted_context(function) | given


def _restricted_context(function: Function) -> Raw:
    # No function needs raw sockets, which could forge packets; programs that run as root may need
    # the other capabilities.
    dropped = ["ALL"] if is_hardened(function) else ["NET_RAW"]
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": dropped}}
