"""A function whose first deploy failed has the same state in every view."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.dashboard.conftest import Dashboard, Started, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

BROKEN = "raise RuntimeError('the weights are gone')\n"


def states(dashboard: Dashboard, name: str) -> set[str]:
    """Return its state in the command line, and in the dashboard's object and list."""
    printed = json.loads(dashboard.cli("get", "function", name, "-o", "json").stdout)
    object_ = dashboard.request("GET", f"/api/functions/{name}").json
    listed = dashboard.request("GET", "/api/functions").json[name]
    statuses = [object_["status"], listed["status"], printed["status"]]
    reported = {"the weights are gone" in status.get("message", "") for status in statuses}
    details = {status["detailedState"] for status in statuses[:2]}
    return (
        {status["state"] for status in statuses}
        | details
        | (set() if all(reported) else {"no reason"})
    )


def test_the_state_is_error_in_every_view(started: Started, tmp_path: Path) -> None:
    function = {
        "metadata": {"name": "asked-for"},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "build": {"functionSourceCode": base64.b64encode(BROKEN.encode()).decode()},
        },
    }
    with started() as dashboard:
        folder = write_function(tmp_path, "deployed", BROKEN)
        assert dashboard.cli("deploy", "--path", str(folder), check=False).returncode == 1
        assert states(dashboard, "deployed") == {"error"}
        waiting = {"X-Nuclio-Wait-Function-Action": "true"}
        dashboard.request("POST", "/api/functions", json=function, headers=waiting)
        assert states(dashboard, "asked-for") == {"error"}


def test_a_function_that_was_ready_is_unhealthy(started: Started, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    code = f"import os\nif os.path.exists({str(gone)!r}):\n    {BROKEN}\n"
    code += "def handler(context, event):\n    return 'well'\n"
    spec = "platform: {attributes: {restartPolicy: {name: 'no'}}}"
    with started() as dashboard:
        name = dashboard.deploy(write_function(tmp_path, "once-well", code, spec=spec))
        gone.touch()
        dashboard.cli("down")
        assert dashboard.cli("up", check=False).returncode == 1
        until(lambda: states(dashboard, name) == {"unhealthy"}, "it is unhealthy everywhere")
