"""The template of a function's pods, as a pure function.

What Nuclio makes of a configuration (pkg/platform/kube/functionres/lazy.go), with its names, ports
and probes. The same function has the same template, whenever and wherever it is made: an unchanged
deploy restarts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fnbuild.builder.processor_settings import (
    DRAIN_SECONDS,
    processor_settings,
    termination_seconds,
)
from fnbuild.platforms.kube import hardening, monitoring, scaling
from fnbuild.platforms.kube.availability import spread
from fnbuild.platforms.kube.labels import CONTAINER, Made
from fnbuild.platforms.kube.volumes import volumes_of
from fnbuild.platforms.processor_status import ADMIN_PORT
from fnbuild.platforms.settings import needs_gpu
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import EnvVar, Function, Raw

HTTP = "http"
HTTP_PORT = 8080

_LINGER = 5.0
_SHORT_LINGER = 1.0
_MARGIN = 5
_OF_SERVICES = ("port", "serviceType", "disablePortPublishing", "ingresses", "ingressClassName")
_LEAST = {"cpu": "25m", "memory": "1Mi"}


def template(made: Made, function: Function, pull_secret: str, *, cron_jobs: bool) -> Raw:
    """What a Deployment has as `spec.template`. With `cron_jobs` the cron triggers run elsewhere.

    Raises `InputError` for values that cannot work.
    """
    linger = _linger(function)
    processor = _processor(function, linger, cron_jobs=cron_jobs)
    return {
        "metadata": {
            "labels": made.labels(),
            "annotations": monitoring.ANNOTATIONS | made.pod_annotations(processor),
        },
        "spec": _pod(made, function, pull_secret, _stop_seconds(function, linger)),
    }


def strategy(made: Made, function: Function) -> Raw:
    """New pods before old ones go; with GPUs the reverse, for the old pod holds the one there is.

    Nuclio does the same with GPUs and leaves the rest to Kubernetes, which may take a quarter of
    the old pods away first.
    """
    if function.spec.deployment_strategy:
        return function.spec.deployment_strategy
    if needs_gpu(function) and not made.overlap:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}


def _linger(function: Function) -> float:
    """Return the seconds for which an ending pod serves callers that do not know of its end yet.

    Where the next pod always waits for that end it only makes the gap longer. A pod with a GPU may
    well be replaced by one beside it (`replacing`), and its template cannot tell.
    """
    recreates = (function.spec.deployment_strategy or {}).get("type") == "Recreate"
    return _SHORT_LINGER if recreates else _LINGER


def _processor(function: Function, linger: float, *, cron_jobs: bool) -> Raw:
    """The processor's configuration, without the revision and what concerns the Service alone: such
    a change restarts nothing.
    """
    # Before its workers are ready nobody answers the readiness probe, behind a failure either.
    found = processor_settings(function, 0) | {"linger": linger, "accept": "when-ready"}
    found["triggers"] = {
        name: {**one, "attributes": _less(one["attributes"])}
        for name, one in found["triggers"].items()
        if one["kind"] != "cron" or not cron_jobs
    }
    return found


def _less(attributes: Raw) -> Raw:
    return {name: value for name, value in attributes.items() if name not in _OF_SERVICES}


def _stop_seconds(function: Function, linger: float) -> int:
    """How long a pod may take to end what it has in hand, in seconds."""
    longest = max(DRAIN_SECONDS, termination_seconds(function))
    return math.ceil(linger + longest) + _MARGIN


def _pod(made: Made, function: Function, pull_secret: str, stop_seconds: int) -> Raw:
    spec = function.spec
    volumes = volumes_of(function)
    # Named even where it is the default one: an account that was taken away would stay otherwise,
    # in the older field that the API server keeps beside this one.
    pod: Raw = {"serviceAccountName": spec.service_account or "default"}
    if not spec.service_account:
        pod["automountServiceAccountToken"] = False
    # One variable for each port of each service of the namespace would be in the environment.
    pod["enableServiceLinks"] = False
    pod |= placement(function, pull_secret)
    if constraints := spread(made, function):
        pod["topologySpreadConstraints"] = constraints
    if spec.host_ipc:
        pod["hostIPC"] = True
    pod["securityContext"] = hardening.of_pod(function)
    pod["terminationGracePeriodSeconds"] = stop_seconds
    if spec.init_containers:
        pod["initContainers"] = [_other(function, one) for one in spec.init_containers]
    pod["containers"] = [
        _container(made, function, volumes.mounts),
        *(_other(function, one) for one in spec.sidecars),
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


def pull_policy(made: Made, function: Function) -> str:
    """The function's own; else a name that may move is asked for at every start, as in Nuclio."""
    exact = made.pinned or "@" in made.runs
    return function.spec.image_pull_policy or ("IfNotPresent" if exact else "Always")


def _container(made: Made, function: Function, mounts: Iterable[Raw]) -> Raw:
    spec = function.spec
    container: Raw = {
        "name": CONTAINER,
        "image": made.runs,
        "imagePullPolicy": pull_policy(made, function),
        "ports": [
            {"name": HTTP, "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": monitoring.PORT, "containerPort": ADMIN_PORT, "protocol": "TCP"},
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
        "securityContext": hardening.of_function(function),
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
    usual = scaling.REQUESTS if scaling.by_cpu(function) else _LEAST
    least = {name: text for name, text in usual.items() if _fits(text, limits.get(name))}
    found = {"limits": limits, "requests": least | function.spec.resources.requests}
    return {name: value for name, value in found.items() if value}


def _fits(text: str, limit: str | None) -> bool:
    """Whether a request stays within its limit; above it, Kubernetes takes the limit for it."""
    return limit is None or quantity(text) <= quantity(limit)


def _other(function: Function, container: Raw) -> Raw:
    """An init container or a sidecar, with the function's variables where it has not its own."""
    env: list[Raw] = container.get("env") or []
    names = {one.get("name") for one in env}
    merged = [*env, *(one for one in environment(function) if one["name"] not in names)]
    found = {**container, "env": merged}
    found["securityContext"] = hardening.of_other(function, container)
    if container.get("ports"):
        found["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
    return found
