"""The dashboard shows and invokes functions that `fnbuild run` serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.dashboard.conftest import Dashboard, environment
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

CONFIG = "metadata: {name: sketch}\nspec: {handler: 'main:handler', runtime: 'python:3.11'}\n"
CODE = "def handler(context, event):\n    return 'from the foreground'\n"


def test_a_foreground_function_is_listed_and_invoked_until_it_ends(
    started: Callable[..., AbstractContextManager[Dashboard]], tmp_path: Path
) -> None:
    folder = tmp_path / "sketch"
    folder.mkdir()
    (folder / "function.yaml").write_text(CONFIG)
    (folder / "main.py").write_text(CODE)
    with started() as dashboard:
        process = subprocess.Popen(
            [sys.executable, "-m", "fnbuild", "run", str(folder)],
            env=environment(dashboard.data_dir),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def state() -> str:
            answer = dashboard.request("GET", "/api/functions")
            assert answer.status == 200, answer.text
            return str(answer.json["sketch"]["status"]["state"]) if answer.json else ""

        try:
            until(lambda: state() == "ready", "the function is listed")
            shown = dashboard.request("GET", "/api/functions/sketch").json
            assert "it runs in the foreground" in shown["status"]["message"]
            headers = {"x-nuclio-function-name": "sketch"}
            answer = dashboard.request("POST", "/api/function_invocations", headers=headers)
            assert (answer.status, answer.text) == (200, "from the foreground")
            refused = dashboard.request(
                "DELETE", "/api/functions", json={"metadata": {"name": "sketch"}}
            )
            assert refused.status in (409, 412), refused.text
            assert "it runs in the foreground" in refused.text
        finally:
            process.kill()
            process.wait()
        until(lambda: not state(), "the function is gone")
