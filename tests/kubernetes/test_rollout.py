"""A redeploy while clients that never try twice send requests all the time."""

from __future__ import annotations

from pathlib import Path

from bench.steady import Clients
from tests.engine import until
from tests.kubernetes.conftest import OnCluster

CONFIG = """\
metadata: {{name: steady}}
spec:
  handler: main:handler
  runtime: python:3.11
  build: {{image: {image}, noBaseImagesPull: true}}
"""
HANDLER = "def handler(context, event):\n    return 'version {}'\n"


def test_a_rollout_loses_no_request(user: OnCluster, tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(CONFIG.format(image=user.made.image("steady")))

    def deploy(version: int) -> str:
        (tmp_path / "main.py").write_text(HANDLER.format(version))
        return user.deploy("--path", tmp_path)

    url = deploy(1)
    with Clients(url) as clients:
        until("the load", lambda: clients.answered["version 1"] > 50)
        assert deploy(2) == url
        until("the new version", lambda: clients.answered["version 2"] > 50)
        until("the end of the old pod", lambda: len(user.pods("steady")) == 1, 30.0)
        before = clients.answered["version 2"]
        until("load behind it", lambda: clients.answered["version 2"] > before + 50)
    assert clients.lost == {}
    assert set(clients.answered) == {"version 1", "version 2"}
