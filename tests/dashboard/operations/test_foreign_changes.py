"""Functions that another process is changing: a dashboard with another data directory and the same
cluster, or a process that holds the lock of this data directory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import function_image, kubeconfig_of, own_namespace, require_cluster
from tests.dashboard.calls import answering, deployed, gated, invoked, operation, settled, status
from tests.dashboard.conftest import Dashboard, Started, new_data_dir, running
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

SLOW = """\
import os
import time


def init_context(context):
    time.sleep(float(os.environ["SECONDS"]))


def handler(context, event):
    return os.environ["WORD"]
"""

HOLDING = """\
import sys
from fnbuild.datadir import function_lock

with function_lock("nuclio", sys.argv[1], "deployed"):
    print("held", flush=True)
    sys.stdin.read()
"""

Pair = tuple[Dashboard, Dashboard]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require_cluster()
    with function_image(tmp_path_factory.mktemp("slow"), SLOW) as name:
        yield name


@pytest.fixture
def pair(tmp_path: Path, fetched: Path) -> Iterator[Pair]:
    """Two dashboards on one cluster, each with its own data directory."""
    config = tmp_path / "dashboard.yaml"
    config.write_text("platform: kube\nplatforms: [kube]\nnoPull: true\n")
    homes = [tmp_path / name for name in ("one", "two")]
    for home in homes:
        home.mkdir()
    with own_namespace(require_cluster()) as namespace:
        env = {"NUCLIO_DASHBOARD_NAMESPACE": namespace}
        first_server, second_server = (
            running(new_data_dir(home, fetched), "--config", str(config), env=env) for home in homes
        )
        with first_server as first, second_server as second:
            yield first, second
            first.request("DELETE", "/api/functions/slow")


def of_image(image: str, word: str, seconds: float) -> dict[str, Any]:
    values = {"WORD": word, "SECONDS": str(seconds)}
    return {
        "metadata": {"name": "slow"},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "description": "takes its time",
            "env": [{"name": name, "value": value} for name, value in values.items()],
            "build": {"codeEntryType": "image"},
        },
    }


def listed(dashboard: Dashboard) -> dict[str, Any]:
    answer = dashboard.request("GET", "/api/functions")
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json
    return reply


def is_building(dashboard: Dashboard) -> bool:
    return (
        "slow" in (functions := listed(dashboard))
        and functions["slow"]["status"]["state"] == "building"
    )


def refused(dashboard: Dashboard, body: dict[str, Any]) -> None:
    """Check that every change is refused at once with the reason."""
    for method, path, sent in (
        ("PUT", "/api/functions", body),
        ("POST", "/api/functions", body),
        ("PATCH", "/api/functions/slow", {"desiredState": "ready"}),
        ("DELETE", "/api/functions/slow", None),
    ):
        answer = dashboard.request(method, path, json=sent)
        assert answer.status == 412, (method, answer.status, answer.text)
        assert "being deployed from" in answer.json["hint"]


def test_a_change_by_one_dashboard_is_shown_by_the_other(pair: Pair, image: str) -> None:
    first, second = pair
    body = of_image(image, "first", 15)
    assert first.request("POST", "/api/functions", json=body).status == 202
    until(lambda: is_building(second), "the other lists a first deploy")
    entry = listed(second)["slow"]
    assert entry["spec"]["description"] == "takes its time"
    assert "being deployed from" in entry["status"]["message"]
    assert status(second, "slow")["state"] == "building"
    refused(second, body)
    assert settled(second, "slow")["state"] == "ready"
    until(lambda: status(first, "slow")["operation"]["state"] != "running", "it has ended")
    assert status(first, "slow")["state"] == status(second, "slow")["state"] == "ready"

    again = of_image(image, "second", 20)
    assert first.request("PUT", "/api/functions", json=again).status == 202
    until(lambda: status(second, "slow")["state"] == "building", "it is under way for the other")
    refused(second, again)
    until(lambda: is_building(second), "so it is in the list")
    # The running revision serves meanwhile.
    assert status(second, "slow")["replicas"]["available"] == 1
    assert invoked(second, "slow") == "first"
    assert settled(second, "slow")["state"] == "ready"
    until(lambda: invoked(second, "slow") == "second", "the new one serves")
    assert (status(second, "slow")["revision"], status(second, "slow")["message"]) == (2, "")


@contextmanager
def held(dashboard: Dashboard, name: str) -> Iterator[int]:
    """Hold the function's lock in another process; yield its id."""
    command = [sys.executable, "-c", HOLDING, name]
    with subprocess.Popen(
        command,
        env=dashboard.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.stdin.close()


def test_a_change_by_a_command_line_is_shown(started: Started) -> None:
    with started() as own:
        deployed(own, answering("mine", "one"))
        with held(own, "mine") as process:
            current = status(own, "mine")
            assert current["state"] == "building"
            assert f"being deployed by process {process}" in current["message"]
            assert "building" in own.cli("get", "functions").stdout
            assert invoked(own, "mine") == "one"
            answer = own.request("PUT", "/api/functions", json=answering("mine", "two"))
            assert answer.status == 412
            assert str(process) in answer.json["hint"]
        assert status(own, "mine")["state"] == "ready"


def test_a_change_that_is_refused_late_is_not_a_failure_of_the_function(
    started: Started, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with started() as own:
        deployed(own, answering("mine", "one"))
        # They use all slots, so that the change waits.
        for number in range(4):
            own.request("POST", "/api/functions", json=gated(f"other-{number}", gate, "slow"))
        for number in range(4):
            began = partial(operation, own, f"other-{number}")
            until(lambda began=began: began()["state"] == "running", "it has a place")
        assert own.request("PUT", "/api/functions", json=answering("mine", "two")).status == 202
        assert operation(own, "mine")["state"] == "waiting"
        with held(own, "mine"):
            gate.touch()
            until(lambda: operation(own, "mine")["state"] == "failed", "it is refused")
            assert "is being deployed by process" in operation(own, "mine")["message"]
        current = status(own, "mine")
        assert current["state"] == "ready"
        assert "was refused: mine is being deployed by process" in current["message"]
        assert current["operation"]["state"] == "failed"
        deployed(own, answering("mine", "two"), "PUT")
        assert status(own, "mine")["message"] == ""


def test_a_namespace_that_may_not_be_read_is_refused(tmp_path: Path, fetched: Path) -> None:
    config = tmp_path / "dashboard.yaml"
    config.write_text("platform: kube\nplatforms: [kube]\n")
    rules = [{"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    cluster = require_cluster()
    with own_namespace(cluster) as namespace, own_namespace(cluster) as other:
        file = kubeconfig_of(cluster, namespace, "intern", rules, tmp_path / "kubeconfig")
        env = {"NUCLIO_DASHBOARD_NAMESPACE": namespace, "KUBECONFIG": str(file)}
        home = tmp_path / "one"
        home.mkdir()
        with running(new_data_dir(home, fetched), "--config", str(config), env=env) as dashboard:
            assert listed(dashboard) == {}
            headers = {"x-nuclio-function-namespace": other}
            answer = dashboard.request("GET", "/api/functions", headers=headers)
            assert answer.status == 403, answer.text
            assert "may not list" in answer.json["error"]
            assert other in answer.json["error"]
            headers = {"x-nuclio-function-namespace": namespace}
            assert dashboard.request("GET", "/api/functions", headers=headers).json == {}
