"""The environment of documents about clusters: the test cluster and a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import own_namespace, require_cluster
from tests.docs.containers import containers
from tests.engine import free_port, registry


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Yield variables for a reader's shell; remove what was created with them."""
    result = require_cluster()
    with (
        containers(),
        own_namespace(result) as namespace,
        registry(folder, free_port()) as place,
    ):
        yield {"NUCTL_NAMESPACE": namespace, "REGISTRY": place.address}
