"""Redeploys under load from clients that never retry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.steady_clients import SteadyClients
from fnbuild.platforms.kubeclient import kinds
from tests.cluster import require_local_node
from tests.containers.conftest import PROGRAM
from tests.engine import until
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system

CONFIG = """\
metadata: {{name: steady}}
spec:
  handler: main:handler
  runtime: python:3.11
  build: {{image: {image}, noBaseImagesPull: true}}
"""
HANDLER = "def handler(context, event):\n    return 'version {}'\n"

Write = Callable[[str], Path]


@pytest.fixture
def write(user: OnCluster, tmp_path: Path) -> Write:
    """`write(source)`: the function's folder with that handler."""
    (tmp_path / "function.yaml").write_text(CONFIG.format(image=user.resources.image("steady")))

    def write(source: str) -> Path:
        (tmp_path / "main.py").write_text(source)
        return tmp_path

    return write


def inside(user: OnCluster) -> str:
    """The function's URL within the cluster, or the test is skipped where that leads nowhere.

    1.20's kube-proxy holds node ports by sockets of its own: what connects while it changes its
    rules may end up in one of them, and hangs, whatever the pods do.
    """
    require_local_node(user.cluster)
    return f"http://{user.live(kinds.SERVICE, 'nuclio-steady')['spec']['clusterIP']}:8080"


def test_a_rollout_loses_no_request(user: OnCluster, write: Write) -> None:
    url = user.deploy("--path", write(HANDLER.format(1)))
    with SteadyClients(inside(user)) as clients:

        def answered(version: int, more: int = 50) -> None:
            enough = clients.answered[f"version {version}"] + more
            until(f"version {version}", lambda: clients.answered[f"version {version}"] > enough)

        answered(1)
        assert user.deploy("--path", write(HANDLER.format(2))) == url
        answered(2)
        until("the end of the old pod", lambda: len(user.pods("steady")) == 1)
        answered(2)

        # One that fails has served nobody, and goes again.
        broken = write("raise ValueError('no weights')\n" + HANDLER.format(3))
        arguments = ("deploy", "--platform", "kube", "--path", broken)
        failed = user.run(PROGRAM, *arguments)
        assert failed.returncode == 1
        assert "ValueError: no weights" in failed.stderr
        assert "goes on serving" in failed.stderr
        answered(2)
    assert clients.lost == {}
    assert set(clients.answered) == {"version 1", "version 2"}
