"""A short run of the load and of the measurement of sleep and wake."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.sleep import SleepOutcome, SleepPlan, measure, run

pytestmark = pytest.mark.system


def test_only_requests_of_killed_workers_fail() -> None:
    outcome = run(SleepPlan(requests=300, sleeps=5, kills=2, clients=8, workers=2))
    assert outcome.judge() == []
    assert outcome.kills == 2
    assert outcome.sleeps >= 5


def test_lost_requests_and_repeated_ones_are_violations() -> None:
    assert SleepOutcome(kills=1, lost=["500 SIGKILL"]).judge() == []
    assert SleepOutcome(kills=1, lost=["500 SIGKILL"] * 2).judge()
    assert SleepOutcome(kills=1, lost=["503 busy"]).judge()
    assert SleepOutcome(violations=["requests were handled twice"]).judge()


def test_a_sleeping_function_holds_little_memory(tmp_path: Path) -> None:
    costs = measure(tmp_path / "costs", "json", template=True, init_seconds=0.0)
    assert costs.awake > 2 * 190
    assert costs.beyond_template < 40
