"""KServe's CustomResourceDefinitions in a cluster."""

from __future__ import annotations

from typing import Any

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import RequestSubject
from fnbuild.platforms.kubeclient.kinds import Kind
from fnbuild.platforms.kubeclient.transport import APPLY, ApiRequest
from tests import locks
from tests.engine import until
from tests.platforms.kserve.schemas import CRD_KINDS, load_crd

_DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False
)
_SERVED = (kinds.INFERENCE_SERVICE, kinds.SERVING_RUNTIME, kinds.CLUSTER_SERVING_RUNTIME)


def install_definitions(cluster: Cluster) -> None:
    """Apply the definitions, which stay for other tests, and wait until they are served."""
    # A client-side apply would keep them in an annotation, which they are too large for.
    query = {"fieldManager": "kserve", "force": "true"}
    with locks.exclusive("kserve-definitions"):
        for kind in CRD_KINDS:
            definition = _without_empty_defaults(load_crd(kind))
            name = definition["metadata"]["name"]
            path = _DEFINITION.path(None, name)
            request = ApiRequest("PATCH", path, query, definition, APPLY)
            subject = RequestSubject("patch", _DEFINITION, None, name)
            cluster.transport.request_json(request, subject)

        def are_served() -> bool:
            cluster._served_kinds.clear()
            return all(map(cluster.serves, _SERVED))

        until("KServe's resources", are_served)


def _without_empty_defaults(schema: Any) -> Any:
    """Return a definition that Kubernetes 1.20 accepts: it takes an empty default for null."""
    if isinstance(schema, list):
        return [_without_empty_defaults(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_empty_defaults(value)
        for key, value in schema.items()
        if (key, value) != ("default", "")
    }
