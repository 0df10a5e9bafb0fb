"""Samples from the counters of processors."""

from __future__ import annotations

import math

import pytest

from fnbuild.dashboard.sampling import Quantile, SampleHistory, estimate_quantile, statistics_since
from fnbuild.platforms import Statistics

pytestmark = pytest.mark.system

COUNTED = Statistics(
    requests=10,
    errors=1,
    durations=((10.0, 4), (20.0, 8), (100.0, 9), (math.inf, 9)),
    workers={"ready": 1, "busy": 1},
)


def test_quantiles_lie_between_bounds() -> None:
    durations = [(10.0, 50), (20.0, 90), (100.0, 100), (math.inf, 100)]
    assert estimate_quantile(durations, 0, 0.5) == Quantile(10, 0, 10)
    assert estimate_quantile(durations, 0, 0.7) == Quantile(15, 10, 20)
    assert estimate_quantile(durations, 0, 0.95) == Quantile(60, 20, 100)
    assert estimate_quantile(durations, 0, 1.0) == Quantile(100, 20, 100)
    # Values beyond the last bound are only known to be larger.
    assert estimate_quantile([(10.0, 0), (math.inf, 7)], 0, 0.5) == Quantile(10, 10, None)


def test_the_sum_refines_quantiles_between_bounds() -> None:
    assert estimate_quantile([(1.0, 1), (math.inf, 1)], 0.1, 0.95) == Quantile(0.1, 0.1, 0.1)
    slow = [(2500.0, 0), (5000.0, 10), (math.inf, 10)]
    estimate = estimate_quantile(slow, 10 * 3000.0, 0.95)
    assert (estimate.least, estimate.most) == (2500, 5000)
    assert 3000 < estimate.likely < 3500
    assert estimate_quantile(slow, 10 * 3000.0, 0.5).likely == 3000


def test_a_processor_that_does_not_answer_leaves_a_gap() -> None:
    history = SampleHistory()
    history.add(1.0, {"a": COUNTED})
    history.add(2.0, {})
    history.add(3.0, {"a": COUNTED})
    gap, after = history.samples
    assert (gap.requests, gap.busy, gap.workers) == (0, None, None)
    assert (after.requests, after.workers) == (0, 2)


def test_requests_between_two_samples() -> None:
    later = Statistics(14, 1, ((10.0, 6), (20.0, 10), (100.0, 13), (math.inf, 13)))
    difference = statistics_since(later, COUNTED)
    assert (difference.requests, difference.errors) == (4, 0)
    assert difference.durations == ((10.0, 2), (20.0, 2), (100.0, 4), (math.inf, 4))


def test_a_restarted_processor_counts_from_zero() -> None:
    assert statistics_since(COUNTED, None) == COUNTED
    assert statistics_since(COUNTED, Statistics(requests=11, errors=1)) == COUNTED


def test_a_history_starts_with_the_second_sample() -> None:
    history = SampleHistory()
    history.add(1.0, {"a": COUNTED})
    assert list(history.samples) == []
    history.add(2.0, {"a": COUNTED, "b": COUNTED})
    history.add(3.0, {})
    first, second = history.samples
    assert (first.requests, first.errors, first.busy, first.workers) == (10, 1, 2, 4)
    assert first.quantiles is not None
    assert (second.requests, second.workers, second.quantiles) == (0, None, None)


def test_a_history_keeps_a_quarter_of_an_hour() -> None:
    history = SampleHistory()
    for number in range(1000):
        history.add(float(number), {"a": COUNTED})
    assert len(history.samples) == 180
    assert history.samples[-1].time == 999
