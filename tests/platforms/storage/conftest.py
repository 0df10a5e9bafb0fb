"""A namespace of the current cluster, and volumes in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import own_namespace, require_cluster


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return require_cluster()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    with own_namespace(cluster) as name:
        yield name
    for volume in cluster.list(kinds.VOLUME, None):
        if volume["metadata"]["name"].startswith(f"{name}-"):
            cluster.delete(kinds.VOLUME, "", volume["metadata"]["name"])
