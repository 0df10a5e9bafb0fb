"""What a document about clusters runs on: the cluster that is there, with a registry beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import own_namespace, require_cluster
from tests.docs.containers import containers
from tests.engine import free_port, registry


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Variables for a reader's shell; what was made with them is gone at the end."""
    found = require_cluster()
    with (
        containers(),
        own_namespace(found) as namespace,
        registry(folder, free_port()) as place,
    ):
        yield {"NUCTL_NAMESPACE": namespace, "REGISTRY": place.address}
