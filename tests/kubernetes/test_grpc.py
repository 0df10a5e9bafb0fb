"""Inference over gRPC: with a function's node port, and with a forwarded port."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.http.client import request
from tests.containers.conftest import PROGRAM
from tests.engine import PYTHON_IMAGE
from tests.kubernetes.conftest import OnCluster
from tests.runtime.grpc_server.inference import Client, number

pytestmark = pytest.mark.system

CODE = """\
import os

def handler(context, event):
    return {"sum": event.body["x"][0] + float(os.environ["TERM"])}
"""


@pytest.fixture
def deploy_adder(user: OnCluster, registry: str, tmp_path: Path) -> Any:
    """`deploy(term)`: deploy a function that adds the term to its input; return its status."""
    folder = tmp_path / "adder"
    folder.mkdir()
    (folder / "main.py").write_text(CODE)
    image = user.resources.name("adder")
    user.resources.images += [f"{image}:latest", f"{registry}/{image}:latest"]
    options = ("--path", folder / "main.py", "--image", image, "-r", registry)
    python = ("--base-image", PYTHON_IMAGE, "--runtime", "python:3.11", "--handler", "main:handler")

    def deploy(term: str) -> dict[str, Any]:
        protocols = ("--protocols", "v2,grpc", "--env", f"TERM={term}")
        user.deploy("adder", *options, *python, *protocols)
        status: dict[str, Any] = user.describe("adder")["status"]
        return status

    return deploy


@contextmanager
def forwarded(user: OnCluster, name: str, ports: str) -> Iterator[str]:
    """Run `fnbuild port-forward` during the block; yield the local address."""
    command = [PROGRAM, "port-forward", name, ports, "--platform", "kube"]
    with subprocess.Popen(
        command, env=user.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            [address] = re.findall(r"http://(\S+)", process.stdout.readline())
            yield address
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def _sum(address: str) -> Any:
    message = number("x", 1.5)
    message.model_name = "adder"
    with Client(address) as client:
        answer = client.infer(message, wait_for_ready=True)
    return json.loads(answer.outputs[0].contents.bytes_contents[0])


def test_a_pod_serves_grpc_on_a_node_port_that_stays(user: OnCluster, deploy_adder: Any) -> None:
    status = deploy_adder("1")
    host, _, http_port = status["externalInvocationUrls"][0].rpartition(":")
    assert status["grpcPort"] not in (0, int(http_port))
    assert _sum(f"{host}:{status['grpcPort']}") == {"sum": 2.5}
    with forwarded(user, "adder", "0:8081") as address:
        assert _sum(address) == {"sum": 2.5}
    with forwarded(user, "adder", "0:8080") as address:
        assert request("GET", f"http://{address}", "/v2/models/adder/ready").status == 200

    again = deploy_adder("2")
    assert again["grpcPort"] == status["grpcPort"]
    assert _sum(f"{host}:{status['grpcPort']}") == {"sum": 3.5}
    user.fnbuild("delete", "function", "adder", "--platform", "kube")
