"""Fixtures: a cluster with KServe's definitions, and a namespace with the stand-in controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import own_namespace, require_cluster
from tests.engine import discard_images, require_engine, require_image
from tests.platforms.crds import KSERVE_KINDS, install_definitions
from tests.platforms.kserve.controller import StandardController


@pytest.fixture(scope="session")
def kserve_cluster() -> Cluster:
    """The current cluster with KServe's definitions."""
    cluster = require_cluster()
    install_definitions(cluster, KSERVE_KINDS)
    return cluster


@pytest.fixture
def namespace(kserve_cluster: Cluster) -> Iterator[str]:
    require_image(require_engine())
    with (
        own_namespace(kserve_cluster) as name,
        StandardController(kserve_cluster, name) as controller,
    ):
        yield name
        assert controller.errors == []


@pytest.fixture
def platform(namespace: str, data: Path) -> KServePlatform:
    return KServePlatform()


@pytest.fixture
def built_images(namespace: str, shared_layers: None) -> Iterator[None]:
    """Remove the images that are named for the namespace after the test."""
    yield
    discard_images(namespace)
