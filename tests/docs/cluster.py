"""The environment of documents about clusters: the test cluster and a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import own_namespace, require_cluster
from tests.docs.containers import containers
from tests.engine import free_port, registry
from tests.platforms.crds import KSERVE_KINDS, install_definitions
from tests.platforms.kserve.controller import StandardController


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Yield variables for a reader's shell; remove what was created with them."""
    with _cluster(require_cluster(), folder) as variables:
        yield variables


@contextmanager
def kserve(folder: Path) -> Iterator[dict[str, str]]:
    """Yield variables for a cluster where a stand-in acts for KServe's controller."""
    result = require_cluster()
    install_definitions(result, KSERVE_KINDS)
    with (
        _cluster(result, folder) as variables,
        StandardController(result, variables["NUCTL_NAMESPACE"]),
    ):
        yield variables


@contextmanager
def _cluster(result: Cluster, folder: Path) -> Iterator[dict[str, str]]:
    with (
        containers(),
        own_namespace(result) as namespace,
        registry(folder, free_port()) as place,
    ):
        yield {"NUCTL_NAMESPACE": namespace, "REGISTRY": place.address}
