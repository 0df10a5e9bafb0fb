"""Sample functions and revisions for tests of manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fnbuild.function.reader import function_from_dict, load_function
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function
from fnbuild.platforms.kubeclient.kinds import (
    CRON_JOB_V1BETA1,
    DISRUPTION_BUDGET_V1BETA1,
    HPA_V1,
    HPA_V2BETA2,
    INTERCEPTOR_ROUTE,
    Kind,
)
from fnbuild.platforms.kubernetes.labels import validated_key
from fnbuild.platforms.kubernetes.manifests.rendering import RenderContext
from fnbuild.platforms.kubernetes.manifests.scaling import uses_custom_metrics
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord, recorded_config

NAMESPACE = "fnbuild-test"
DIGEST = "c0de" * 16
IMAGE = "registry.example.com/fnbuild/{}:latest"
PINNED = "registry.example.com/fnbuild/{}@sha256:" + "1a" * 32


def function(name: str = "greeter", labels: dict[str, str] | None = None, **spec: Any) -> Function:
    """Return a function with defaults."""
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
    raw = {"metadata": metadata, "spec": {"handler": "main:handler", **spec}}
    return with_defaults(function_from_dict(raw, name))


def load(path: Path, variant: str | None = None) -> Function:
    """Load the function of a file into the namespace of the tests."""
    function = load_function(path, variant=variant).function
    metadata = msgspec.structs.replace(function.metadata, namespace=NAMESPACE)
    return msgspec.structs.replace(function, metadata=metadata)


def revision(function: Function, **values: Any) -> RevisionRecord:
    """Return revision 7 of the function, from an image in a registry."""
    name = function.metadata.name
    defaults: dict[str, Any] = {
        "number": 7,
        "created": "2026-01-02T03:04:05.678Z",
        "digest": DIGEST,
        "image": IMAGE.format(name),
        "pinned": PINNED.format(name),
        "source": 7,
        "owner": "machine:/data",
    }
    return RevisionRecord(
        key=validated_key(function), config=recorded_config(function), **(defaults | values)
    )


def render_context(function: Function, **values: Any) -> RenderContext:
    """Return the context of the oldest cluster, without autoscaling/v2 and batch/v1 CronJobs.

    It has KEDA for functions with `scaleToZero`.
    """
    hpa: Kind = HPA_V2BETA2 if uses_custom_metrics(function) else HPA_V1
    oldest = {
        "hpa_kind": hpa,
        "cron_job_kind": CRON_JOB_V1BETA1,
        "budget_kind": DISRUPTION_BUDGET_V1BETA1,
        "route_kind": INTERCEPTOR_ROUTE if function.spec.scale_to_zero else None,
    }
    return RenderContext(**(oldest | values))
