"""Restart counts of containers, and their reasons."""

from __future__ import annotations

from typing import Any

from fnbuild.platforms import Restarts
from fnbuild.platforms.kubeclient.objects import Pod
from fnbuild.platforms.kubernetes.diagnosis import containers


def pod(name: str, **ends: dict[str, Any]) -> Pod:
    """Return a pod whose containers ended as described; `count` is the number of restarts."""
    statuses = [
        {
            "name": container,
            "restartCount": end.pop("count", 1),
            "lastState": {"terminated": end} if end else {},
        }
        for container, end in ends.items()
    ]
    memory = {"resources": {"limits": {"memory": "96Mi"}}}
    return Pod(
        metadata={"name": f"{name}-1", "labels": {"nuclio.io/function-name": name}},
        spec={"containers": [{"name": container, **memory} for container in ends]},
        status={"containerStatuses": statuses},
    )


def test_the_last_termination_is_the_reason() -> None:
    old, new = "2026-01-02T03:04:05Z", "2026-01-02T03:14:05Z"
    restarts = containers.restarts_by_function(
        [
            pod("a", nuclio={"exitCode": 3, "finishedAt": old, "count": 2}),
            pod("a", nuclio={"exitCode": 137, "reason": "OOMKilled", "finishedAt": new}),
            pod("b", nuclio={"count": 0}),
            pod("c", nuclio={"count": 1}),
            pod("d", nuclio={"count": 0}, proxy={"exitCode": 1, "finishedAt": new}),
        ]
    )
    assert restarts["a"].count == 3
    assert restarts["a"].time == new
    assert restarts["a"].reason.startswith("was killed because it ran out of memory")
    assert "b" not in restarts
    assert restarts["c"] == Restarts(1)
    assert restarts["d"].reason == "sidecar proxy ended with exit status 1"
