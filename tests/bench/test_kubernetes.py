"""The tables and the counts of the cluster bench."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import kubernetes
from bench.cluster import wait_until
from bench.containers import Timings
from tests.bench.test_load import serving

pytestmark = pytest.mark.system

KUBECTL = """#!/bin/sh
echo '{"serverVersion": {"gitVersion": "v1.20.2"}}'
"""


def test_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    deploys = Timings({"deploy": [3.0, 1.0, 2.0], "deploy by hand": [1.0, 1.5, 1.0]})
    listings = Timings(
        {f"{size}{suffix}": [0.5] for size in (50, 500) for suffix in ("", " by hand")}
    )
    lossy = kubernetes.Loss(200, 3, 0.25, {"TimeoutError", "ConnectionRefusedError"})
    losses = {"a rollout, 1 replica": kubernetes.Loss(100), "a pod is killed, 1 replica": lossy}
    text = kubernetes.render(deploys, 12.3, listings, losses, 3)
    assert "Kubernetes v1.20.2" in text
    assert "| first deploy, until the first answer | 2.00 s | 1.00 s | +1.00 s |" in text
    assert "| 500 functions listed | 0.50 s | 0.50 s | +0.00 s |" in text
    assert "| 20 deploys at the same time, until the last answer | 12.30 s |  |  |" in text
    assert "| a rollout, 1 replica | 100 | 0 | 0.00 s |" in text
    reasons = "3 (ConnectionRefusedError, TimeoutError)"
    assert f"| a pod is killed, 1 replica | 200 | {reasons} | 0.25 s |" in text


def test_losses_add_up_over_rounds() -> None:
    busy = False
    loss = kubernetes.Loss()
    with serving(lambda _: (503 if busy else 200, json.dumps(busy).encode())) as url:
        for _ in range(2):
            with loss.watched(url) as clients:
                busy = True
                wait_until("a loss", lambda seen=clients: seen.lost.total() > 2)
                busy = False
    assert loss.requests > 400
    assert 6 <= loss.lost < loss.requests
    assert loss.reasons == {"status 503"}
