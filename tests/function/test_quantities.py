from decimal import Decimal

import pytest

from fnbuild.function.quantities import parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5), ("10us", 1e-5), ("3µs", 3e-6),
        ("0", 0), ("-2s", -2), ("+2s", 2), (".5s", 0.5), ("1m0.5s", 60.5), ("100ns", 1e-7),
    ],
)  # fmt: skip
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "30", "s", "1 s", "30sec", "1d", "--1s", "1s ", "1..5s", "9999999h"]
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"), ("500m", "0.5"), ("4Gi", "4294967296"), ("1.5Gi", "1610612736"), ("1e3",
        "1000"),
        ("2E", "2E18"), ("1k", "1000"), ("1Ki", "1024"), ("-1", "-1"), (".5", "0.5"), ("3u",
        "0.000003"),
    ],
)  # fmt: skip
def test_quantity(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "4GB", "one", "1 Gi", "4gi", "1e9999", "Gi"])
def test_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)
