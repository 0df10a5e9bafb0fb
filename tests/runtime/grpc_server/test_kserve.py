"""KServe's own gRPC client gets the answers of KServe's own server."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.environments import environment_python
from tests.runtime.conftest import eventually
from tests.runtime.grpc_server import inference

pytestmark = pytest.mark.system

HERE = Path(__file__).parents[1]
SUMS = """
    def handler(context, event):
        y = event.body["inputs"][0]["data"].sum(axis=1)
        return {"outputs": [{"name": "y", "datatype": "FP32", "shape": y.shape, "data": y}]}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def answers(python: Path, target: str) -> dict[str, Any]:
    command = [python, HERE / "kserve_grpc_client.py", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_kserves_client_gets_the_answers_of_kserves_server(serve, tmp_path):
    python = environment_python("3.11", "kserve==0.21.0")
    port, grpc_port = free_port(), free_port()
    command = [python, HERE / "kserve_server.py", str(port), str(grpc_port)]
    with (tmp_path / "log").open("wb") as log:
        theirs = subprocess.Popen(command, stdout=log, stderr=log)

    def is_ready() -> bool:
        assert theirs.poll() is None, (tmp_path / "log").read_text()
        try:
            return requests.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        ours = serve(SUMS, **inference.settings(model="sums", event="request"))
        eventually(is_ready)
        expected = answers(python, f"127.0.0.1:{grpc_port}")
        assert answers(python, ours.grpc_target) == expected
    finally:
        theirs.terminate()
        theirs.wait()
    assert expected["raw"]["outputs"][0]["data"] == [6.75, 2.5]
    assert expected["unknown model"] == "NOT_FOUND"
