"""The labels by which clients recognize the objects that fnbuild manages."""

from __future__ import annotations

from fnbuild.function.types import Raw

RECOMMENDED_PREFIX = "app.kubernetes.io"
MANAGED_BY = f"{RECOMMENDED_PREFIX}/managed-by"
MANAGER = "fnbuild"

RECORD = "fnbuild.io/record"
"""The label of records, which says what they hold: `project`, `revisions`, `secrets` …"""

SERVICE_RECORD = "kserve"
"""The value of that label for functions that KServe runs."""


def labels_of(obj: Raw) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def is_managed(obj: Raw | None) -> bool:
    """Return True if fnbuild manages the object."""
    return obj is not None and labels_of(obj).get(MANAGED_BY) == MANAGER
