"""Short runs of the fault test and of the memory test."""

from __future__ import annotations

import pytest

from bench import faults

pytestmark = pytest.mark.system


def test_only_requests_of_killed_workers_may_fail() -> None:
    outcome = faults.run(faults.FaultPlan(requests=4000, kills=10, redeploys=2, workers=2))
    assert outcome.judge(steady=False) == []
    assert (outcome.kills, outcome.redeploys) == (10, 2)


def test_memory_stays_constant() -> None:
    outcome = faults.run(faults.FaultPlan(requests=6000, workers=2, clients=4))
    assert outcome.judge(steady=True) == []
    assert len(outcome.memory) > 10


def test_violations_are_reported() -> None:
    outcome = faults.FaultResult(kills=1, failures=["(SIGKILL)", "busy"], violations=["no reply"])
    outcome.memory = [50.0] * 10 + [60.0] * 10
    message = "\n".join(outcome.judge(steady=True))
    for part in ("no reply", "without a killed worker: busy", "2 requests", "50.0 to 60.0"):
        assert part in message
    assert "memory" not in "\n".join(outcome.judge(steady=False))
