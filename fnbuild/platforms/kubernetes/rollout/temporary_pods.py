"""Pods of checks and trials, which run beside the pods of a function for a while."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from fnbuild.errors import FnbuildError
from fnbuild.function.types import Raw
from fnbuild.platforms import Manifest
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes.labels import (
    MANAGED_BY,
    MANAGER,
    TEMPORARY_POD_OF,
    KubernetesKey,
)

_MAX_NAME_LENGTH = 45
_SUFFIX_BYTES = 3
# With the function's priority the pod could preempt other pods.
_PRIORITY_FIELDS = ("priorityClassName", "preemptionPolicy")


def temporary_pod(key: KubernetesKey, purpose: str, deployment: Manifest, changes: Raw) -> Raw:
    """Return a pod made from the template of a Deployment, with changes of its spec.

    `purpose` is a part of its name. No Service selects it, and its kubelet ends it at the latest
    after the `activeDeadlineSeconds` of the changes.
    """
    template: Raw = deployment["spec"]["template"]
    kept = {name: value for name, value in template["spec"].items() if name not in _PRIORITY_FIELDS}
    name = key.object_name[:_MAX_NAME_LENGTH].rstrip("-.")
    metadata = {
        "name": f"{name}-{purpose}-{secrets.token_hex(_SUFFIX_BYTES)}",
        "namespace": key.namespace,
        "labels": {MANAGED_BY: MANAGER, TEMPORARY_POD_OF: key.name},
        "annotations": template["metadata"].get("annotations") or {},
    }
    return kinds.POD.manifest(metadata, spec=kept | {"terminationGracePeriodSeconds": 0} | changes)


@contextlib.contextmanager
def created_pod(cluster: Cluster, pod: Raw) -> Iterator[str]:
    """Create a pod, provide its name during the block, and delete it."""
    namespace, name = str(pod["metadata"]["namespace"]), str(pod["metadata"]["name"])
    cluster.create(pod)
    try:
        yield name
    finally:
        with contextlib.suppress(FnbuildError):
            cluster.delete(kinds.POD, namespace, name)


def delete_leftover_pods(cluster: Cluster, key: KubernetesKey) -> None:
    """Delete the pods that killed commands have left. The caller holds the function's lease."""
    with contextlib.suppress(FnbuildError):
        selector = f"{TEMPORARY_POD_OF}={key.name}"
        for pod in cluster.list(kinds.POD, key.namespace, labels=selector):
            cluster.delete(kinds.POD, key.namespace, str(pod["metadata"]["name"]))
