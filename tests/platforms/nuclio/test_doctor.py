"""What the doctor says of a Nuclio."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.nuclio import NuclioPlatform, connect, doctor
from fnbuild.spec.types import Raw
from tests.engine import free_port


def test_a_dashboard_that_answers(platform: NuclioPlatform, namespace: str) -> None:
    (found,) = platform.examine(namespace)
    assert (found.area, found.state) == ("nuclio", "ok")
    assert platform.door.place in found.message
    assert list(platform.examine(namespace, areas=["disk"])) == []


def test_a_dashboard_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("FNBUILD_NUCLIO_URL", f"http://127.0.0.1:{port}")
    (found,) = connect().examine("nuclio")
    assert found.state == "failure"
    assert str(port) in found.message
    assert "FNBUILD_NUCLIO_URL" in found.remedy


def test_nobody_says_where_nuclio_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FNBUILD_NUCLIO_URL", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (found,) = connect().examine("nuclio")
    assert (found.state, "FNBUILD_NUCLIO_URL" in found.remedy) == ("failure", True)


def test_a_controller_that_does_not_run(cluster: Cluster, cluster_namespace: str) -> None:
    labels = {"app": "controller"}
    pod: Raw = {"containers": [{"name": "one", "image": "registry.invalid/nuclio/controller:1"}]}
    cluster.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "nuclio-controller", "namespace": cluster_namespace},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )
    (found,) = (
        one
        for one in doctor.controller(cluster, cluster_namespace)
        if cluster_namespace in one.message
    )
    assert (found.state, "does not run" in found.message) == ("failure", True)
    assert f"-n {cluster_namespace}" in found.remedy
