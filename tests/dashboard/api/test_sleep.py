"""Sleep and wake of a function's workers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system


def sleep_of(dashboard: Dashboard, name: str) -> dict[str, Any]:
    answer = dashboard.request("GET", f"/api/functions/{name}", token=False)
    assert answer.status == 200, answer.text
    sleep: dict[str, Any] = answer.json["status"]["sleep"]
    return sleep


def shown_by_cli(dashboard: Dashboard) -> str:
    return str(dashboard.cli("get", "function", "sleeper", "-o", "wide").stderr)


def change(dashboard: Dashboard, name: str, state: str, **more: Any) -> Any:
    path = f"/api/functions/{name}/sleep"
    return dashboard.request("PUT", path, json={"state": state}, **more)


def test_a_function_sleeps_wakes_and_sleeps_by_itself(dashboard: Dashboard, tmp_path: Any) -> None:
    folder = write_function(tmp_path, "sleeper")
    dashboard.deploy(folder)
    assert sleep_of(dashboard, "sleeper")["state"] == "awake"
    assert change(dashboard, "sleeper", "dreaming").status == 400
    assert change(dashboard, "sleeper", "asleep", token=False).status in (401, 403)
    answer = change(dashboard, "sleeper", "asleep")
    assert (answer.status, answer.json) == (200, {"state": "asleep"})
    sleep = sleep_of(dashboard, "sleeper")
    assert (sleep["state"], sleep["idleTimeout"], sleep["level"]) == ("asleep", None, "exit")
    assert abs(sleep["since"] - time.time()) < 60
    listed = dashboard.cli("get", "function", "sleeper")
    assert "asleep, wakes in about" in listed.stderr
    refused = dashboard.cli("invoke", "sleeper", "--no-wake", "--raise-on-status", check=False)
    assert refused.returncode == 1
    assert "asleep" in refused.stderr
    assert "awake after" in dashboard.cli("wake", "sleeper").stderr
    assert sleep_of(dashboard, "sleeper")["state"] == "awake"
    assert "asleep" in dashboard.cli("sleep", "sleeper").stderr
    dashboard.cli("invoke", "sleeper")
    until(lambda: sleep_of(dashboard, "sleeper")["state"] == "awake", "it is awake")

    assert sleep_of(dashboard, "sleeper")["group"] is None
    dashboard.deploy(folder, "--idle-timeout", "1s", "--gpu-group", "sleepers")
    until(lambda: sleep_of(dashboard, "sleeper")["state"] == "asleep", "it is asleep")
    assert sleep_of(dashboard, "sleeper")["idleTimeout"] == 1
    group = sleep_of(dashboard, "sleeper")["group"]
    assert (group["name"], group["usage"], group["awakeLimit"]) == ("sleepers", "0 of 1 awake", 1)
    assert [member["description"] for member in group["members"]] == ["sleeper asleep"]
    assert "GPU group sleepers (0 of 1 awake): sleeper asleep" in shown_by_cli(dashboard)
    dashboard.cli("delete", "function", "sleeper")


def test_a_wake_that_fails_has_the_handlers_traceback(dashboard: Dashboard, tmp_path: Any) -> None:
    code = (
        "import os\n\n"
        "def init_context(context):\n"
        "    if os.path.exists('/tmp/BROKEN'):\n"
        "        raise ValueError('no weights')\n\n"
        "def handler(context, event):\n"
        "    return 'ok'\n"
    ).replace("/tmp/BROKEN", str(tmp_path / "broken"))
    dashboard.deploy(write_function(tmp_path, "failer", code))
    assert change(dashboard, "failer", "asleep").status == 200
    (tmp_path / "broken").touch()
    answer = change(dashboard, "failer", "awake")
    assert answer.status >= 400
    assert "no weights" in answer.text
    failed = dashboard.cli("wake", "failer", check=False)
    assert failed.returncode == 1
    assert "failer did not wake: ValueError: no weights" in failed.stderr
    assert "Traceback" in failed.stderr
    (tmp_path / "broken").unlink()
    until(lambda: change(dashboard, "failer", "awake").status == 200, "it is awake")
    dashboard.cli("delete", "function", "failer")
