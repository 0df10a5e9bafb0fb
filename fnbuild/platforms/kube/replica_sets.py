"""Old ReplicaSets, which keep the pod templates of earlier revisions."""

from __future__ import annotations

from contextlib import suppress

from fnbuild.errors import FnbuildError
from fnbuild.platforms.cluster import kinds
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import inventory
from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube.labels import Key


def remove_idle(cluster: Cluster, key: Key) -> None:
    """Remove ReplicaSets without pods, whose templates may hold values that belong in a Secret.

    Without the right to do so, they stay until the cluster removes all but the newest.
    """
    selector = f"{inventory.OF_FUNCTIONS},{own.FUNCTION}={key.name}"
    with suppress(FnbuildError):
        for replica_set in cluster.list(kinds.REPLICA_SET, key.namespace, labels=selector):
            if not replica_set["spec"].get("replicas"):
                name = str(replica_set["metadata"]["name"])
                cluster.delete(kinds.REPLICA_SET, key.namespace, name)
