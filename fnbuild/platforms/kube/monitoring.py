"""Discovery of a function's metrics by Prometheus: pod annotations, or a PodMonitor."""

from __future__ import annotations

from fnbuild.platforms.cluster.kinds import POD_MONITOR
from fnbuild.platforms.kube.labels import Made
from fnbuild.platforms.processor_status import ADMIN_PORT
from fnbuild.spec.types import Raw

PORT = "metrics"
"""The name of the container's port."""

_PATH = "/metrics"

ANNOTATIONS = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(ADMIN_PORT),
    "prometheus.io/path": _PATH,
}


def pod_monitor(made: Made) -> Raw:
    """Return the object by which the Prometheus operator finds the pods."""
    return {
        "apiVersion": POD_MONITOR.api,
        "kind": POD_MONITOR.name,
        "metadata": made.metadata(),
        "spec": {
            "selector": {"matchLabels": made.key.selector},
            "podMetricsEndpoints": [{"port": PORT, "path": _PATH}],
        },
    }
