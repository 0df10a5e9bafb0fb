"""What is only so with resources in a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.errors import ConflictError, NotReadyError, UnavailableError
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.cluster.kinds import NUCLIO_FUNCTION
from fnbuild.platforms.nuclio import connect, rollout
from fnbuild.platforms.nuclio.resources import Resources
from fnbuild.spec.types import Raw
from tests.platforms.nuclio.controller import controlling, require_resources
from tests.platforms.nuclio.world import World


@pytest.fixture
def alone(cluster: Cluster, cluster_namespace: str, images: dict[str, str], data: Path) -> World:
    """Nuclio's resources without a controller."""
    require_resources(cluster)
    return World(connect(), cluster_namespace, images)


def test_no_controller_runs(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "_CONTROLLER_SECONDS", 0.5)
    with pytest.raises(UnavailableError, match="no Nuclio controller seems to run") as silent:
        alone.deploy("one")
    assert "fnbuild delete function greeter" in (silent.value.hint or "")
    assert alone.shown().state == "building"
    assert alone.platform.delete(alone.namespace, "greeter") is True


def test_a_cluster_without_nuclio(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "serves", lambda kind: kind is not NUCLIO_FUNCTION)
    with pytest.raises(UnavailableError, match="has no Nuclio") as missing:
        Resources(cluster).functions("default")
    assert "--platform kube" in (missing.value.hint or "")


def test_what_others_wrote_about_an_object_stays(alone: World) -> None:
    alone.add_foreign("eyes", image="nothing")
    stored = alone.stored("eyes")
    owner: Raw = {"finalizers": ["example.org/keep"]}
    door = alone.platform.door
    assert isinstance(door, Resources)
    door.cluster.patch(NUCLIO_FUNCTION, alone.namespace, "eyes", {"metadata": owner})
    door.replace(alone.stored("eyes"), {**stored, "metadata": {"labels": {"a": "b"}}})
    now = alone.stored("eyes")
    assert now["metadata"]["finalizers"] == owner["finalizers"]
    assert now["metadata"]["labels"] == {"a": "b"}
    assert now["status"] == {"state": "waitingForResourceConfiguration", "httpPort": 31999}
    door.cluster.patch(NUCLIO_FUNCTION, alone.namespace, "eyes", {"metadata": {"finalizers": []}})


def test_a_pods_own_words_where_nuclio_has_none(alone: World, cluster: Cluster) -> None:
    with controlling(cluster, alone.namespace, quiet=True):
        with pytest.raises(NotReadyError, match="ModuleNotFoundError") as failure:
            alone.deploy("broken")
        assert "import nowhere_to_be_found" in (failure.value.detail or "")


def test_a_function_that_runs_without_nuclio_is_left_alone(alone: World, cluster: Cluster) -> None:
    labels = {"app.kubernetes.io/managed-by": "fnbuild"}
    pod: Raw = {"containers": [{"name": "nuclio", "image": alone.images["one"]}]}
    cluster.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "nuclio-greeter",
                "namespace": alone.namespace,
                "labels": labels,
            },
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )
    with pytest.raises(ConflictError, match="without Nuclio") as refused:
        alone.deploy("one")
    assert "--platform kube" in (refused.value.hint or "")
    assert alone.platform.deployments(alone.namespace) == []
