"""Scaling to zero by KEDA and its HTTP add-on: https://keda.sh/http-add-on/.

The add-on's interceptor holds requests while KEDA starts the first pod. Requests reach it through a
Service of their own, `nuclio-NAME-proxy`; those to the function's Service or node port go to the
pods without it, are not counted, and start no pod.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from fnbuild.builder.processor_settings import availability_milliseconds, readiness_seconds
from fnbuild.errors import InputError
from fnbuild.function.quantities import parse_duration
from fnbuild.function.sleep_settings import sleep_settings
from fnbuild.function.types import Function, Raw, Trigger
from fnbuild.platforms.kubeclient.kinds import (
    HTTP_SCALED_OBJECT,
    INTERCEPTOR_ROUTE,
    SCALED_OBJECT,
    SERVICE,
    Kind,
)
from fnbuild.platforms.kubernetes.labels import CLASS, KubernetesKey
from fnbuild.platforms.kubernetes.manifests import scaling
from fnbuild.platforms.kubernetes.manifests.pods import HTTP_PORT, HTTP_PORT_NAME
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord

NAMESPACE_VARIABLE = "FNBUILD_KEDA_NAMESPACE"
"""The variable with the namespace of KEDA's HTTP add-on."""

INTERCEPTOR_SERVICE = "keda-add-ons-http-interceptor-proxy"
INTERCEPTOR_PORT = 8080

SCALER_NAME = "keda"
"""The value of the annotation `labels.SCALER`."""

PAUSED_ANNOTATION = "autoscaling.keda.sh/paused"
"""The annotation that makes KEDA leave the number of pods alone."""

# The annotation without which the add-on creates a ScaledObject for each HTTPScaledObject.
_OWN_SCALED_OBJECT = "httpscaledobject.keda.sh/skip-scaledobject-creation"

_DEFAULT_NAMESPACE = "keda"
_SCALER_ADDRESS = "keda-add-ons-http-external-scaler.{}:9090"
_PROXY_SUFFIX = "-proxy"
_MAX_NAME_LENGTH = 63

# KEDA's default of `cooldownPeriod`, in seconds.
_COOLDOWN_SECONDS = 300
# The add-on's own default was 0.5 s in earlier versions, which most models exceed.
_RESPONSE_SECONDS = 600.0


def keda_namespace() -> str:
    """Return the namespace of the HTTP add-on."""
    return os.environ.get(NAMESPACE_VARIABLE) or _DEFAULT_NAMESPACE


def proxy_name(key: KubernetesKey) -> str:
    """Return the name of the Service that leads to the interceptor."""
    return f"{key.object_name}{_PROXY_SUFFIX}"


def proxy_host(key: KubernetesKey) -> str:
    """Return the host by which the interceptor recognizes requests to a function."""
    return f"{proxy_name(key)}.{key.namespace}"


def scales_to_zero(function: Function) -> bool:
    """Return True if the function may have no pods while it gets no requests."""
    spec = function.spec
    return (
        spec.min_replicas == 0
        and spec.replicas is None
        and scaling.replica_bounds(function)[1] > 0
        and function.http_trigger() is not None
    )


def keda_manifests(
    revision: RevisionRecord, function: Function, route_kind: Kind, hosts: Iterable[str] = ()
) -> list[Raw]:
    """Return the proxy Service, the route and the ScaledObject.

    `route_kind` is the served kind of routes: InterceptorRoute, or HTTPScaledObject of releases
    before 0.14. `hosts` are the names of an Ingress. Raises `InputError` for a name that leaves no
    room for the suffix of the proxy.
    """
    name = proxy_name(revision.key)
    if len(name) > _MAX_NAME_LENGTH:
        raise InputError(
            f"metadata.name: {revision.key.name} is too long for a function that KEDA scales to"
            f" zero: its Service would be {name}",
            hint=f"use up to {_MAX_NAME_LENGTH - len(name) + len(revision.key.name)} characters,"
            " or minReplicas 1",
        )
    host = proxy_host(revision.key)
    names = list(dict.fromkeys([host, f"{host}.svc", f"{host}.svc.cluster.local", *hosts]))
    is_route = route_kind == INTERCEPTOR_ROUTE
    route = _interceptor_route if is_route else _http_scaled_object
    return [
        _proxy_service(revision),
        route(revision, function, names),
        _scaled_object(revision, function, "interceptorRoute" if is_route else "httpScaledObject"),
    ]


def _proxy_service(revision: RevisionRecord) -> Raw:
    metadata = revision.metadata(name=proxy_name(revision.key))
    # Services with this label are functions to Nuclio's tools and to fnbuild.
    del metadata["labels"][CLASS]
    spec = {
        "type": "ExternalName",
        "externalName": f"{INTERCEPTOR_SERVICE}.{keda_namespace()}.svc.cluster.local",
        "ports": [{"name": HTTP_PORT_NAME, "protocol": "TCP", "port": INTERCEPTOR_PORT}],
    }
    return SERVICE.manifest(metadata, spec=spec)


def _interceptor_route(revision: RevisionRecord, function: Function, hosts: list[str]) -> Raw:
    spec = {
        "target": _target(revision),
        "rules": [{"hosts": hosts}],
        "scalingMetric": _scaling_metric(function),
        "timeouts": {
            # Without it, the wait for the first pod has no limit of its own.
            "readiness": _seconds(readiness_seconds(function)),
            "responseHeader": _seconds(_response_seconds(function)),
        },
    }
    return INTERCEPTOR_ROUTE.manifest(revision.metadata(), spec=spec)


def _http_scaled_object(revision: RevisionRecord, function: Function, hosts: list[str]) -> Raw:
    spec = {
        "hosts": hosts,
        "scaleTargetRef": scaling.scale_target(revision) | _target(revision),
        "replicas": {"min": 0, "max": scaling.replica_bounds(function)[1]},
        "scalingMetric": _scaling_metric(function),
        "timeouts": {
            "conditionWait": _seconds(readiness_seconds(function)),
            "responseHeader": _seconds(_response_seconds(function)),
        },
    }
    metadata = revision.metadata({_OWN_SCALED_OBJECT: "true"})
    return HTTP_SCALED_OBJECT.manifest(metadata, spec=spec)


def _scaled_object(revision: RevisionRecord, function: Function, route_field: str) -> Raw:
    trigger = {
        "type": "external-push",
        "metadata": {
            "scalerAddress": _SCALER_ADDRESS.format(keda_namespace()),
            route_field: revision.key.object_name,
        },
    }
    spec = {
        "scaleTargetRef": scaling.scale_target(revision),
        "minReplicaCount": 0,
        "maxReplicaCount": scaling.replica_bounds(function)[1],
        "cooldownPeriod": round(sleep_settings(function).idle_timeout or _COOLDOWN_SECONDS),
        "triggers": [trigger],
    }
    return SCALED_OBJECT.manifest(revision.metadata(), spec=spec)


def _target(revision: RevisionRecord) -> Raw:
    return {"service": revision.key.object_name, "port": HTTP_PORT}


def _scaling_metric(function: Function) -> Raw:
    """Return the number of requests that one pod handles at a time."""
    trigger = _http_trigger(function)
    batch = trigger.batch
    size = batch.batch_size if batch is not None and batch.is_enabled else 1
    return {"concurrency": {"targetValue": trigger.workers * size}}


def _response_seconds(function: Function) -> float:
    """Return the longest time of a reply: of the wait for a worker, and of the handler."""
    text = function.spec.event_timeout
    if not text:
        return _RESPONSE_SECONDS
    return parse_duration(text) + availability_milliseconds(_http_trigger(function)) / 1000


def _http_trigger(function: Function) -> Trigger:
    named_trigger = function.http_trigger()
    assert named_trigger is not None, "a function without one does not scale to zero"
    return named_trigger[1]


def _seconds(seconds: float) -> str:
    return f"{round(seconds)}s"
