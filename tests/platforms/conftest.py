"""What tests of all platforms on a cluster share: the cluster, a namespace, one image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnbuild.platforms.cluster.api import Cluster
from tests.cluster import function_image, own_namespace, require_cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that is there."""
    return require_cluster()


@pytest.fixture
def cluster_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    with own_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="session")
def greeter_image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of a function that answers `hello`, which the node has without a push."""
    with function_image(tmp_path_factory.mktemp("greeter")) as image:
        yield image
