"""Medians and ratios."""

from __future__ import annotations

import pytest

from bench.goals import evaluate_goals
from bench.results import Results
from tests.bench.sample_results import one_slice, results


def test_ratios_are_computed_within_a_round() -> None:
    # The machine was half as fast in round 1; the median of ratios does not see it.
    figures = Results(
        results(
            *[one_slice("limit", number, rate) for number, rate in enumerate([100, 50, 100])],
            *[one_slice("fnbuild", number, rate) for number, rate in enumerate([90, 45, 80])],
        )
    )
    figure = figures.figure("jpeg", 8, "fnbuild")
    assert figure is not None
    assert figure.ratio == pytest.approx(0.9)
    assert figure.rate == 80
    assert figure.p50 == pytest.approx(12.5)


def test_a_void_round_is_ignored() -> None:
    figures = Results(
        results(
            one_slice("limit", 0, 100),
            one_slice("limit", 1, 100),
            one_slice("flask", 0, 99, void="3 x status"),
            one_slice("flask", 1, 60),
        )
    )
    figure = figures.figure("jpeg", 8, "flask")
    assert figure is not None
    assert (figure.rate, figure.ratio) == (60, pytest.approx(0.6))
    assert figure.void == ("3 x status",)


def test_a_server_with_void_rounds_only_has_no_rate() -> None:
    figures = Results(results(one_slice("limit", 0, 100), one_slice("flask", 0, 99, void="late")))
    figure = figures.figure("jpeg", 8, "flask")
    assert figure is not None
    assert (figure.rate, figure.ratio, figure.void) == (0.0, None, ("late",))
    assert figures.ratio("jpeg", 8, "flask", "limit") is None


def test_without_a_valid_limit_there_is_no_ratio() -> None:
    figures = Results(results(one_slice("limit", 0, 100, void="?"), one_slice("fnbuild", 0, 90)))
    assert figures.ratio("jpeg", 8, "fnbuild", "limit") is None


def test_missing_measurements_are_none() -> None:
    figures = Results(results(one_slice("limit", 0, 100)))
    assert figures.figure("jpeg", 8, "kserve") is None
    assert figures.alone("jpeg", "kserve", "cold_start") is None


def test_goals_use_the_best_peer_and_the_worst_concurrency() -> None:
    slices = [
        one_slice(server, 0, rate, concurrency=concurrency)
        for concurrency, rates in {1: (100, 50, 25), 8: (200, 40, 160)}.items()
        for server, rate in zip(("fnbuild", "flask", "kserve"), rates, strict=True)
    ]
    verdicts = {verdict.text: verdict for verdict in evaluate_goals(Results(results(*slices)))}
    worst = verdicts["jpeg: times the best peer, at the worst concurrency"]
    assert worst.value == pytest.approx(1.25)
    assert worst.met is True
    assert verdicts["jpeg: times flask at concurrency 8"].value == pytest.approx(5.0)
    assert verdicts["echo: times the best peer at concurrency 8"].met is None


def test_goals_of_the_life_cycle() -> None:
    lifecycle = [
        {"workload": "torch", "server": "limit", "cold_start": 2.0},
        {"workload": "torch", "server": "fnbuild", "cold_start": 2.5, "restart": 0.2},
        {"workload": "torch", "server": "fnbuild", "pss_loaded": 300.0},
        {"workload": "torch", "server": "flask", "pss_loaded": 400.0},
    ]
    figures = Results(results(lifecycle=lifecycle))
    verdicts = {verdict.text: verdict for verdict in evaluate_goals(figures)}
    start = verdicts["torch: seconds that a cold start takes beyond the handler's own"]
    assert (start.value, start.met) == (pytest.approx(0.5), False)
    assert verdicts["torch: a worker's restart through a cold start"].met is True
    assert verdicts["torch: memory loaded through flask's"].met is True
