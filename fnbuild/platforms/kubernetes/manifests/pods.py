"""The pod template of a function: containers, volumes, security contexts, metrics discovery.

It follows Nuclio (pkg/platform/kube/functionres/lazy.go), with its names, ports and probes. The
same function always has the same template, so that an unchanged deploy restarts no pod.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fnbuild.builder.grpc_packages import serves_grpc
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
from fnbuild.platforms.kubernetes.labels import CONTAINER
from fnbuild.platforms.kubernetes.manifests import scaling
from fnbuild.platforms.kubernetes.manifests.model_volume import model_volume
from fnbuild.platforms.kubernetes.manifests.scaling import topology_spread
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord
from fnbuild.platforms.processor_status import ADMIN_PORT
from fnbuild.platforms.settings import needs_gpu

HTTP_PORT_NAME = "http"
HTTP_PORT = 8080
GRPC_PORT_NAME = "grpc"
GRPC_PORT = 8081

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

PROCESSOR_VOLUME = "processor-config-volume"
"""Nuclio's name of the volume that holds the processor's configuration."""
_TMP_VOLUME = "fnbuild-tmp"
_TMP = "/tmp"  # noqa: S108 - inside the container

METRICS_PORT_NAME = "metrics"
"""The name of the container's port."""

_METRICS_PATH = "/metrics"

SCRAPE_ANNOTATIONS = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(ADMIN_PORT),
    "prometheus.io/path": _METRICS_PATH,
}

_NOBODY = 65532
"""The conventional user of images without root (distroless: `nonroot`)."""


def pod_template(
    revision: RevisionRecord, function: Function, pull_secret: str, *, cron_jobs: bool
) -> Raw:
    """Return `spec.template` of the Deployment. With `cron_jobs` the pods run no cron triggers.

    Raises `InputError` for invalid values.
    """
    linger = _linger_seconds(function)
    processor = _processor_config(revision, function, linger, cron_jobs=cron_jobs)
    return {
        "metadata": {
            "labels": revision.labels(),
            "annotations": SCRAPE_ANNOTATIONS | revision.pod_annotations(processor),
        },
        "spec": _pod_spec(revision, function, pull_secret, _stop_seconds(function, linger)),
    }


def deployment_strategy(revision: RevisionRecord, function: Function) -> Raw:
    """Return a strategy that starts new pods first or, with GPUs, ends old pods first.

    An old pod may hold the only GPU. Nuclio does the same with GPUs, and otherwise uses the default
    of Kubernetes, which may remove a quarter of the old pods first.
    """
    if function.spec.deployment_strategy:
        return function.spec.deployment_strategy
    if needs_gpu(function) and not revision.overlap:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}


def _linger_seconds(function: Function) -> float:
    """Return the seconds for which an ending pod serves callers that do not know of its end yet.

    Where the next pod always waits for that end, it only makes the gap longer. A pod with a GPU may
    be replaced without a gap (`rollout.replacement`), which its template does not tell.
    """
    recreates = (function.spec.deployment_strategy or {}).get("type") == "Recreate"
    return _SHORT_LINGER_SECONDS if recreates else _LINGER_SECONDS


def _processor_config(
    revision: RevisionRecord, function: Function, linger: float, *, cron_jobs: bool
) -> Raw:
    """Return the configuration of the processor.

    Attributes of the Service are omitted, so that their changes restart no pod.
    """
    # The readiness probe fails until the workers are ready, and after a failure.
    config = processor_settings(function, revision.pod_revision)
    config |= {"linger": linger, "accept": "when-ready"}
    config["triggers"] = {
        name: {**trigger, "attributes": _without_service_attributes(trigger["attributes"])}
        for name, trigger in config["triggers"].items()
        if trigger["kind"] != "cron" or not cron_jobs
    }
    return config


def _without_service_attributes(attributes: Raw) -> Raw:
    return {name: value for name, value in attributes.items() if name not in _SERVICE_ATTRIBUTES}


def _stop_seconds(function: Function, linger: float) -> int:
    """Return the termination grace period in seconds, which lets requests finish."""
    longest = max(DRAIN_SECONDS, termination_seconds(function))
    return math.ceil(linger + longest) + _STOP_MARGIN_SECONDS


def _pod_spec(
    revision: RevisionRecord, function: Function, pull_secret: str, stop_seconds: int
) -> Raw:
    spec = function.spec
    volumes = function_volumes(function)
    # Set even to the default: otherwise a removed account would remain in the deprecated field that
    # the API server keeps in sync with this one.
    pod: Raw = {"serviceAccountName": spec.service_account or "default"}
    if not spec.service_account:
        pod["automountServiceAccountToken"] = False
    # The environment would have a variable for each port of each service of the namespace.
    pod["enableServiceLinks"] = False
    pod |= placement(function, pull_secret)
    if constraints := topology_spread(revision, function):
        pod["topologySpreadConstraints"] = constraints
    if spec.host_ipc:
        pod["hostIPC"] = True
    pod["securityContext"] = pod_security_context(function)
    pod["terminationGracePeriodSeconds"] = stop_seconds
    if spec.init_containers:
        pod["initContainers"] = [
            _extra_container(function, container) for container in spec.init_containers
        ]
    pod["containers"] = [
        _function_container(revision, function, volumes.mounts),
        *(_extra_container(function, container) for container in spec.sidecars),
    ]
    pod["volumes"] = list(volumes.volumes)
    return pod


def placement(function: Function, pull_secret: str) -> Raw:
    """Return the fields that select nodes and pull secrets."""
    spec = function.spec
    secret = spec.image_pull_secrets or pull_secret
    settings: Raw = {
        "imagePullSecrets": [{"name": secret}] if secret else [],
        "nodeName": spec.node_name,
        "nodeSelector": dict(spec.node_selector),
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "priorityClassName": spec.priority_class_name,
        "preemptionPolicy": spec.preemption_policy,
    }
    return {name: value for name, value in settings.items() if value}


def pull_policy(revision: RevisionRecord, function: Function) -> str:
    """Return the function's policy, or else Always for images that are not pinned, as in Nuclio."""
    is_pinned = revision.pinned or "@" in revision.image_reference
    return function.spec.image_pull_policy or ("IfNotPresent" if is_pinned else "Always")


def _function_container(revision: RevisionRecord, function: Function, mounts: Iterable[Raw]) -> Raw:
    spec = function.spec
    container: Raw = {
        "name": CONTAINER,
        "image": revision.image_reference,
        "imagePullPolicy": pull_policy(revision, function),
        "ports": [
            {"name": name, "containerPort": number, "protocol": "TCP"}
            for name, number in _container_ports(function)
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


def _container_ports(function: Function) -> list[tuple[str, int]]:
    ports = [(HTTP_PORT_NAME, HTTP_PORT), (METRICS_PORT_NAME, ADMIN_PORT)]
    return [*ports, (GRPC_PORT_NAME, GRPC_PORT)] if serves_grpc(function) else ports


def environment(function: Function) -> list[Raw]:
    """Return the function's variables and Nuclio's; as in Nuclio, the last one of a name wins."""
    nuclio_variables: list[Raw] = [
        {"name": "NUCLIO_FUNCTION_NAME", "value": function.metadata.name},
        {"name": "NUCLIO_FUNCTION_VERSION", "value": "latest"},
        {
            "name": "NUCLIO_FUNCTION_INSTANCE",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        },
    ]
    configured = [_variable(variable) for variable in function.spec.env]
    return list(
        {variable["name"]: variable for variable in [*configured, *nuclio_variables]}.values()
    )


def _variable(variable: EnvVar) -> Raw:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from}
    return {"name": variable.name, "value": variable.value}


def resources(function: Function) -> Raw:
    """Return limits and requests, with Nuclio's minimal requests as defaults.

    An autoscaler that compares CPU usage with the requests needs larger ones.
    """
    limits = dict(function.spec.resources.limits)
    defaults = scaling.CPU_REQUESTS if scaling.scales_by_cpu(function) else _MINIMAL_REQUESTS
    minimum = {
        name: text for name, text in defaults.items() if _is_within_limit(text, limits.get(name))
    }
    values = {"limits": limits, "requests": minimum | function.spec.resources.requests}
    return {name: value for name, value in values.items() if value}


def _is_within_limit(text: str, limit: str | None) -> bool:
    """Return True if a request is within its limit; otherwise Kubernetes uses the limit."""
    return limit is None or parse_quantity(text) <= parse_quantity(limit)


def _extra_container(function: Function, container: Raw) -> Raw:
    """Return an init container or a sidecar, with the function's variables as defaults."""
    env: list[Raw] = container.get("env") or []
    names = {variable.get("name") for variable in env}
    merged = [
        *env,
        *(variable for variable in environment(function) if variable["name"] not in names),
    ]
    result = {**container, "env": merged}
    result["securityContext"] = extra_security_context(function, container)
    if container.get("ports"):
        result["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
    return result


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes of the pod and the mounts of the function's container.

    `left_out` are the names of host paths, which are not mounted.
    """

    volumes: tuple[Raw, ...]
    mounts: tuple[Raw, ...]
    left_out: tuple[str, ...] = ()


def function_volumes(function: Function) -> Volumes:
    """Return the user's volumes by name, in Nuclio's order, then fnbuild's own.

    Host paths are omitted, as in Nuclio (pkg/platform/kube/functionres/lazy.go): a pod may run on
    any node. Raises `InputError` for an incomplete volume or mount.
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
        is_reserved = name in (PROCESSOR_VOLUME, _TMP_VOLUME)
        if is_reserved or volumes.setdefault(name, {"name": name, **volume}) != {
            "name": name,
            **volume,
        }:
            raise InputError(f"spec.volumes[{number}]: {name!r} is another volume already")
        mounts.append({"name": name, **mount})
    pod_volumes = [volumes[name] for name in sorted(volumes)]
    mounts.sort(key=lambda mount: str(mount["name"]))
    if is_hardened(function) and not any(mount["mountPath"] == _TMP for mount in mounts):
        pod_volumes.append({"name": _TMP_VOLUME, "emptyDir": {}})
        mounts.append({"name": _TMP_VOLUME, "mountPath": _TMP})
    if (model := model_volume(function)) is not None:
        pod_volumes.append(model[0])
        mounts.append(model[1])
    pod_volumes.append(_processor_volume())
    mounts.append(
        {"name": PROCESSOR_VOLUME, "mountPath": "/etc/nuclio/config/processor", "readOnly": True}
    )
    return Volumes(tuple(pod_volumes), tuple(mounts), tuple(left_out))


def _processor_volume() -> Raw:
    """Return the volume with the processor's configuration, from the pod's own annotation.

    A pod therefore keeps its configuration when newer revisions are deployed.
    """
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{labels.PROCESSOR}']"}
    return {
        "name": PROCESSOR_VOLUME,
        "downwardAPI": {"items": [{"path": "processor.json", "fieldRef": field}]},
    }


def pod_monitor(revision: RevisionRecord) -> Raw:
    """Return the object by which the Prometheus operator finds the pods."""
    spec = {
        "selector": {"matchLabels": revision.key.pod_selector},
        "podMetricsEndpoints": [{"port": METRICS_PORT_NAME, "path": _METRICS_PATH}],
    }
    return POD_MONITOR.manifest(revision.metadata(), spec=spec)


def is_hardened(function: Function) -> bool:
    """Return `spec.platform.attributes.hardened`, which the flag `--hardened` sets."""
    return str(function.spec.platform.attributes.get("hardened")).lower() == "true"


def pod_security_context(function: Function) -> Raw:
    context: Raw = {"seccompProfile": {"type": "RuntimeDefault"}}
    if is_hardened(function):
        context |= {"runAsNonRoot": True, "runAsUser": _NOBODY}
    configured = function.spec.security_context or {}
    if configured.get("runAsUser") == 0:
        context.pop("runAsNonRoot", None)
    return context | configured


def function_security_context(function: Function) -> Raw:
    """Return the security context of the function's own container."""
    read_only = {"readOnlyRootFilesystem": True} if is_hardened(function) else {}
    return _restricted_context(function) | read_only


def extra_security_context(function: Function, container: Raw) -> Raw:
    """Return the security context of an init container or a sidecar.

    A container that requests privileges keeps its own, which the defaults would contradict.
    """
    configured: Raw = container.get("securityContext") or {}
    added = (configured.get("capabilities") or {}).get("add") or []
    if configured.get("privileged") or "SYS_ADMIN" in added or "CAP_SYS_ADMIN" in added:
        return configured
    return _restricted_context(function) | configured


def _restricted_context(function: Function) -> Raw:
    # No function needs raw sockets, which could forge packets; programs that run as root may need
    # the other capabilities.
    dropped = ["ALL"] if is_hardened(function) else ["NET_RAW"]
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": dropped}}
