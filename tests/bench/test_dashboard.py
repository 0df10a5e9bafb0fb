"""The table of the dashboard's bench."""

from __future__ import annotations

from bench.dashboard import DashboardResults, Durations, render


def times(*values: float) -> Durations:
    return Durations(list(values))


def test_shares_and_means() -> None:
    result = times(*range(100))
    assert (result.share(0.5), result.share(0.95), result.share(1.0)) == (50, 95, 99)
    assert result.mean == 49.5


def test_times_are_in_milliseconds() -> None:
    result = times()
    with result.measure():
        pass
    assert 0 < result.values[0] < 100


def test_the_table_has_measurements_and_goals() -> None:
    figures = DashboardResults(
        functions=101,
        listed=times(1.0, 1.0, 12.5),
        checked=times(9.0, 10.0, 21.5),
        direct=times(0.4, 0.4, 0.7),
        relayed=times(1.0, 1.0, 1.3),
        peak=67.6,
        log=(1000, 999),
        page=(123.4, 45_678),
    )
    text = render(figures, "python -m bench.dashboard --rounds 3")
    assert "$ python -m bench.dashboard --rounds 3\n" in text
    assert "| `GET /api/functions` with 101 functions, p95 (median) | 12.5 ms (1.0 ms) |" in text
    assert "with mistakes, p95 (median) | 21.5 ms (10.0 ms) | 30 ms |" in text
    assert "| +0.60 ms (+0.60 ms) | 2 ms |" in text
    assert "| 68 MiB | 80 MiB |" in text
    assert "| 999 of 1000 | all |" in text
    assert "| 123 ms | 300 ms |" in text
    assert "| 46 KB | 200 KB |" in text


def test_without_a_browser_the_page_is_left_out() -> None:
    some = times(1.0)
    assert "page" not in render(DashboardResults(1, some, some, some, some, 1.0, (1, 1), None), "x")
