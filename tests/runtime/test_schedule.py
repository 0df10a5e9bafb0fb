"""Cron schedules, and the errors for invalid ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from fnbuild.runtime.triggers.schedule import Schedule, ScheduleError

FORMAT = "%Y-%m-%d %H:%M:%S"


@pytest.fixture
def zone() -> Iterator[Callable[[str], None]]:
    before = os.environ.get("TZ")

    def choose(name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    choose("UTC")
    yield choose
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def moment(text: str) -> float:
    return time.mktime(time.strptime(text, FORMAT))


def times(schedule: str, start: str, count: int = 3) -> list[str]:
    moments, at = [], moment(start)
    for _ in range(count):
        after = Schedule(schedule).after(at)
        assert after is not None
        assert after > at
        at = after
        moments.append(time.strftime(FORMAT, time.localtime(at)))
    return moments


@pytest.mark.parametrize(
    ("schedule", "start", "expected"),
    [
        ("* * * * *", "2026-01-31 23:58:30", ["2026-01-31 23:59:00", "2026-02-01 00:00:00"]),
        ("*/20 * * * *", "2026-01-01 00:20:00", ["2026-01-01 00:40:00", "2026-01-01 01:00:00"]),
        ("5/25 * * * *", "2026-01-01 00:00:00", ["2026-01-01 00:05:00", "2026-01-01 00:30:00"]),
        ("*/15 * * * * *", "2026-01-01 00:00:50", ["2026-01-01 00:01:00", "2026-01-01 00:01:15"]),
        (
            "0 8-10/2,22 * * *",
            "2026-03-01 09:00:00",
            ["2026-03-01 10:00:00", "2026-03-01 22:00:00"],
        ),
        ("0 0 * JAN,mar mon-FRI", "2026-01-30 12:00:00", ["2026-03-02 00:00:00"]),
        ("0 0 * * 7", "2026-11-20 00:00:00", ["2026-11-22 00:00:00", "2026-11-29 00:00:00"]),
        ("0 0 13 * fri", "2026-11-07 00:00:00", ["2026-11-13 00:00:00", "2026-11-20 00:00:00"]),
        ("0 0 31 * *", "2026-04-01 00:00:00", ["2026-05-31 00:00:00", "2026-07-31 00:00:00"]),
        ("0 0 29 2 *", "2097-01-01 00:00:00", ["2104-02-29 00:00:00"]),
        ("@monthly", "2026-12-02 00:00:00", ["2027-01-01 00:00:00"]),
        ("0 0 ? * *", "2026-12-02 00:00:00", ["2026-12-03 00:00:00"]),
    ],
)
def test_times(zone: Callable[[str], None], schedule: str, start: str, expected: list[str]) -> None:
    assert times(schedule, start, len(expected)) == expected


def test_hours_that_the_clock_skips_or_repeats(zone: Callable[[str], None]) -> None:
    zone("Europe/Berlin")
    assert times("30 2 * * *", "2026-03-28 12:00:00", 1) == ["2026-03-30 02:30:00"]
    hourly = times("0 * * * *", "2026-10-25 01:30:00", 3)
    assert hourly[0] == "2026-10-25 02:00:00"
    assert hourly[-1] in ("2026-10-25 03:00:00", "2026-10-25 04:00:00")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", "has 0 fields"),
        ("* * * *", "five (minute hour day month weekday)"),
        ("60 * * * *", '"60" is not a valid minute: it must be 0 to 59'),
        ("* 24 * * *", "is not a valid hour"),
        ("* * 0 * *", "is not a valid day of month: it must be 1 to 31"),
        ("* * * foo *", "1 to 12 or jan, feb"),
        ("* * * * 8", "0 to 7 or sun, mon"),
        ("*/0 * * * *", "a step must be a positive number"),
        ("*/x * * * *", "a step must be a positive number"),
        ("30-10 * * * *", "the range goes backwards"),
        ("1,,2 * * * *", '"" is not a valid minute'),
        ("-5 * * * *", "is not a valid minute"),
        ("0 0 30 2 *", "never occurs"),
        ("@often", "is not one of @annually"),
    ],
)
def test_invalid_schedules(schedule: str, message: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule(schedule)
    assert message in str(caught.value)
