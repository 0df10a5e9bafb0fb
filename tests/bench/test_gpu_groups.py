"""A short run of the load on a GPU group."""

from __future__ import annotations

import pytest

from bench.gpu_groups import GroupOutcome, GroupPlan, run

pytestmark = pytest.mark.system


def test_members_share_the_budget_without_starvation() -> None:
    outcome = run(GroupPlan(seconds=15, kills=5))
    assert outcome.judge() == []
    assert outcome.swaps > 10
    assert outcome.samples > 100
    # Each of them waits for the turns of the two others.
    assert max(outcome.all_waits) < 40


def test_lost_requests_and_models_loaded_at_once_are_violations() -> None:
    waits = {"detector": [1.0], "segmenter": [1.0], "tracker": [1.0]}
    assert GroupOutcome(waits, kills=1, lost=["tracker: 500 SIGKILL"]).judge() == []
    assert GroupOutcome(waits, kills=1, lost=["tracker: 503 busy"]).judge()
    assert GroupOutcome(waits, violations=["loaded at once: detector, tracker"]).judge()
    assert GroupOutcome(waits | {"tracker": []}).judge()
