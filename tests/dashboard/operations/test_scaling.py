"""A function of a cluster is scaled to zero through the API and started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import function_image, own_namespace, require_cluster
from tests.dashboard.calls import WAIT, function, invoked, settled, status
from tests.dashboard.conftest import new_data_dir, running
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system


def test_a_function_is_scaled_to_zero_and_back(
    tmp_path_factory: pytest.TempPathFactory, fetched: Path
) -> None:
    cluster = require_cluster()
    home = tmp_path_factory.mktemp("scaling")
    (home / "served").mkdir()
    config = home / "dashboard.yaml"
    config.write_text("platform: kube\nplatforms: [kube]\nnoPull: true\n")
    with (
        function_image(home) as image,
        own_namespace(cluster) as namespace,
        running(
            new_data_dir(home / "served", fetched),
            "--config",
            str(config),
            env={"NUCLIO_DASHBOARD_NAMESPACE": namespace},
        ) as dashboard,
    ):
        body = {
            "metadata": {"name": "scaled"},
            "spec": {
                "handler": "main:handler",
                "runtime": "python:3.11",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "replicas": 2,
                "build": {"codeEntryType": "image"},
            },
        }
        answer = dashboard.request("POST", "/api/functions", json=body)
        assert answer.status == 202, answer.text
        final_status = settled(dashboard, "scaled")
        assert (final_status["state"], final_status["replicas"]) == (
            "ready",
            {"available": 2, "wanted": 2},
        )

        def request_state(state: str) -> None:
            answer = dashboard.request(
                "PATCH", "/api/functions/scaled", json={"desiredState": state}, headers=WAIT
            )
            assert answer.status == 202, answer.text

        request_state("scaledToZero")
        until(lambda: status(dashboard, "scaled")["state"] == "scaledToZero", "no replicas")
        assert status(dashboard, "scaled")["replicas"] == {"available": 0, "wanted": 0}
        request_state("ready")
        until(lambda: status(dashboard, "scaled")["replicas"]["available"] == 2, "two again")
        assert invoked(dashboard, "scaled") == "hello"
        shown = function(dashboard, "scaled")
        assert shown["spec"]["replicas"] == 2
        assert "fnbuild.io/scaled-from" not in shown["metadata"]["annotations"]
        assert dashboard.request("DELETE", "/api/functions/scaled").status == 204
