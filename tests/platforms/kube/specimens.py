"""Functions and revisions for tests of what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fnbuild.platforms.cluster.kinds import (
    CRON_JOB_V1BETA1,
    DISRUPTION_BUDGET_V1BETA1,
    HPA_V1,
    HPA_V2BETA2,
    Kind,
)
from fnbuild.platforms.kube.labels import Made, config_of, key_of
from fnbuild.platforms.kube.manifests import Surroundings
from fnbuild.platforms.kube.scaling import needs_metrics
from fnbuild.spec.reader import from_raw, load
from fnbuild.spec.rules import complete
from fnbuild.spec.types import Function

NAMESPACE = "fnbuild-test"
DIGEST = "c0de" * 16
IMAGE = "registry.example.com/fnbuild/{}:latest"
PINNED = "registry.example.com/fnbuild/{}@sha256:" + "1a" * 32


def function(name: str = "greeter", labels: dict[str, str] | None = None, **spec: Any) -> Function:
    """A function as the reader completes it."""
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
    raw = {"metadata": metadata, "spec": {"handler": "main:handler", **spec}}
    return complete(from_raw(raw, name))


def loaded(path: Path, variant: str | None = None) -> Function:
    """The function of a file, in the tests' namespace."""
    found = load(path, variant=variant).function
    metadata = msgspec.structs.replace(found.metadata, namespace=NAMESPACE)
    return msgspec.structs.replace(found, metadata=metadata)


def made(function: Function, **values: Any) -> Made:
    """Revision 7 of it, from an image in a registry."""
    name = function.metadata.name
    given: dict[str, Any] = {
        "number": 7,
        "created": "2026-01-02T03:04:05.678Z",
        "digest": DIGEST,
        "image": IMAGE.format(name),
        "pinned": PINNED.format(name),
        "source": 7,
        "owner": "machine:/data",
    }
    return Made(key=key_of(function), config=config_of(function), **(given | values))


def surroundings(function: Function, **values: Any) -> Surroundings:
    """A cluster of today's oldest kind: without autoscaling/v2 and batch/v1 CronJobs."""
    hpa: Kind = HPA_V2BETA2 if needs_metrics(function) else HPA_V1
    oldest = {"hpa": hpa, "cron_job": CRON_JOB_V1BETA1, "budget": DISRUPTION_BUDGET_V1BETA1}
    return Surroundings(**(oldest | values))
