"""Statistics of functions in the last minutes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

FAILING = """\
import time


def handler(context, event):
    time.sleep(0.02)
    if event.path == "/fails":
        raise ValueError("no such picture")
    return "fine"
"""


@pytest.fixture
def failing(dashboard: Dashboard, tmp_path: Path) -> Iterator[str]:
    name = dashboard.deploy(write_function(tmp_path, "failing", FAILING))
    yield name
    dashboard.cli("delete", "function", name)


def ask(dashboard: Dashboard, name: str, path: str = "") -> int:
    headers = {"X-Nuclio-Function-Name": name, "X-Nuclio-Path": path}
    answer = dashboard.request("POST", "/api/function_invocations", headers=headers, token=False)
    return answer.status


def statistics(dashboard: Dashboard, name: str) -> Any:
    answer = dashboard.request("GET", f"/api/functions/{name}/statistics", token=False)
    assert answer.status == 200, answer.text
    return answer.json


def test_requests_become_samples(dashboard: Dashboard, failing: str) -> None:
    # The sampler learns of the new function from the list.
    dashboard.request("GET", "/api/functions", token=False)
    until(lambda: statistics(dashboard, failing)["samples"], "there is a sample")
    assert {ask(dashboard, failing) for _ in range(10)} == {200}
    assert [ask(dashboard, failing, "fails") for _ in range(2)] == [500, 500]

    def total(name: str) -> int:
        return sum(sample[name] for sample in statistics(dashboard, failing)["samples"])

    until(lambda: total("requests") >= 12, "the requests are in a sample")
    response = statistics(dashboard, failing)
    assert (total("requests"), total("errors")) == (12, 2)
    assert response["interval"] == 5
    [busy, *_] = [sample for sample in response["samples"] if sample["requests"]]
    assert 10 < busy["p50"] <= busy["p95"] <= busy["p99"]
    assert busy["workers"] == 1
    for quiet in (sample for sample in response["samples"] if not sample["requests"]):
        assert quiet["p50"] is None
    assert response["gpuMemory"] is None


def test_the_latest_errors_come_first(dashboard: Dashboard, failing: str) -> None:
    assert statistics(dashboard, failing)["errors"] == []
    ask(dashboard, failing, "fails")
    ask(dashboard, failing)
    until(lambda: statistics(dashboard, failing)["errors"], "the error is shown")
    error = statistics(dashboard, failing)["errors"][0]
    assert "no such picture" in error["message"]
    assert error["requestId"]


def test_workers_and_their_restarts(dashboard: Dashboard, failing: str) -> None:
    [worker] = statistics(dashboard, failing)["workers"]
    assert worker["state"] == "ready"
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: statistics(dashboard, failing)["restarts"] == 1, "the restart is shown")


def test_unknown_functions(dashboard: Dashboard) -> None:
    assert dashboard.request("GET", "/api/functions/nobody/statistics").status == 404
