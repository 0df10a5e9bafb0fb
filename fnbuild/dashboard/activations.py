"""Times at which functions' active revisions changed, as observed by this dashboard."""

from __future__ import annotations

import time
from dataclasses import replace

from fnbuild.dashboard.listed import Listed

_Key = tuple[str, str, str]


class Activations:
    """Times by function; 0 for a revision that was already active when it was first seen."""

    def __init__(self) -> None:
        self._seen: dict[_Key, tuple[int, float]] = {}

    def stamped(self, listed: Listed) -> Listed:
        """Return the function with the time at which its active revision was first seen active."""
        deployment = listed.deployment
        revision = deployment.revision
        if not revision:
            return listed
        key = (deployment.platform, deployment.function.metadata.namespace, deployment.name)
        seen = self._seen.get(key)
        if seen is None or seen[0] != revision:
            seen = self._seen[key] = (revision, time.time() if seen else 0.0)
        return replace(listed, activated=seen[1])
