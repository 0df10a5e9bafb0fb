"""The images on record for functions under KServe, which other platforms have to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.ownership import RECORD, SERVICE_RECORD

_IMAGE_FIELDS = ("image", "pinned")


def recorded_images(cluster: Cluster) -> Iterator[str]:
    """Yield the names and exact references of the images of all recorded revisions.

    Raises `ForbiddenError` for a user who may not read all namespaces.
    """
    selector = f"{RECORD}={SERVICE_RECORD}"
    for config_map in cluster.list(kinds.CONFIG_MAP, None, labels=selector):
        for text in (config_map.get("data") or {}).values():
            try:
                revision = json.loads(text)
            except ValueError:
                continue
            if isinstance(revision, dict):
                yield from (str(revision[key]) for key in _IMAGE_FIELDS if revision.get(key))
