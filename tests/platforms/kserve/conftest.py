"""Fixtures: a cluster with KServe's definitions, and a namespace with the stand-in controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import RequestSubject
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import APPLY, ApiRequest
from tests import locks
from tests.cluster import own_namespace, require_cluster
from tests.engine import require_engine, require_image, until
from tests.platforms.kserve.controller import StandardController
from tests.platforms.kserve.schemas import CRD_KINDS, load_crd

CRD = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False
)


def without_empty_defaults(schema: Any) -> Any:
    """Return a definition that Kubernetes 1.20 accepts: it takes an empty default for null."""
    if isinstance(schema, list):
        return [without_empty_defaults(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_empty_defaults(value)
        for key, value in schema.items()
        if (key, value) != ("default", "")
    }


@pytest.fixture(scope="session")
def kserve_cluster() -> Cluster:
    """The current cluster with KServe's definitions, which stay for other tests."""
    cluster = require_cluster()
    with locks.exclusive("kserve-definitions"):
        for kind in CRD_KINDS:
            definition = without_empty_defaults(load_crd(kind))
            name = definition["metadata"]["name"]
            # Too large for an annotation of a client-side apply.
            query = {"fieldManager": "kserve", "force": "true"}
            request = ApiRequest("PATCH", CRD.path(None, name), query, definition, APPLY)
            cluster.transport.request_json(request, RequestSubject("patch", CRD, None, name))

        def are_served() -> bool:
            cluster._served_kinds.clear()
            return all(
                cluster.serves(kind)
                for kind in (
                    kinds.INFERENCE_SERVICE,
                    kinds.SERVING_RUNTIME,
                    kinds.CLUSTER_SERVING_RUNTIME,
                )
            )

        until("KServe's resources", are_served)
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
