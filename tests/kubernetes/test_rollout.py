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
    """Return `write(source)`, which writes the handler and returns the function's folder."""
    (tmp_path / "function.yaml").write_text(CONFIG.format(image=user.resources.image("steady")))

    def write(source: str) -> Path:
        (tmp_path / "main.py").write_text(source)
        return tmp_path

    return write


def cluster_url(user: OnCluster) -> str:
    """Return the function's URL within the cluster, or skip the test if it is unreachable.

    The kube-proxy of Kubernetes 1.20 listens on node ports itself: connections during a change of
    its rules may reach such a socket and hang.
    """
    require_local_node(user.cluster)
    return f"http://{user.live_object(kinds.SERVICE, 'nuclio-steady')['spec']['clusterIP']}:8080"


def test_a_rollout_loses_no_requests(user: OnCluster, write: Write) -> None:
    url = user.deploy("--path", write(HANDLER.format(1)))
    with SteadyClients(cluster_url(user)) as clients:

        def wait_for_answers(version: int, more: int = 50) -> None:
            expected = clients.answered[f"version {version}"] + more
            until(f"version {version}", lambda: clients.answered[f"version {version}"] > expected)

        wait_for_answers(1)
        assert user.deploy("--path", write(HANDLER.format(2))) == url
        wait_for_answers(2)
        until("the end of the old pod", lambda: len(user.pods("steady")) == 1)
        wait_for_answers(2)

        # A failed revision serves no requests and is removed.
        broken = write("raise ValueError('no weights')\n" + HANDLER.format(3))
        arguments = ("deploy", "--platform", "kube", "--path", broken)
        failed = user.run(PROGRAM, *arguments)
        assert failed.returncode == 1
        assert "ValueError: no weights" in failed.stderr
        assert "goes on serving" in failed.stderr
        wait_for_answers(2)
    assert clients.lost == {}
    assert set(clients.answered) == {"version 1", "version 2"}
