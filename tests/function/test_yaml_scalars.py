"""Scalars as the YAML library of Nuclio resolves them."""

import math

import pytest

from fnbuild.function.yaml_scalars import resolve_scalar, scalar_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("nUll", "nUll"),
        ("true", True), ("yes", True), ("On", True), ("n", False), ("off", False), ("FALSE", False),
        ("2", 2), ("-7", -7), ("+3", 3), ("0750", 488), ("0o750", 488), ("0x1F", 31), ("0b11", 3),
        ("1_000", 1000), ("3355443200", 3355443200), ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64), ("0890", 890.0),
        ("3.10", 3.1), (".5", 0.5), ("1e3", 1000.0), ("1.", 1.0), ("-.inf", -math.inf),
        ("python:3.6", "python:3.6"), ("2024-01-01", "2024-01-01"), ("1:30", "1:30"), ("30s",
        "30s"),
        ("0x", "0x"), ("_1", "_1"), ("1.2.3", "1.2.3"), ("-", "-"), ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
def test_resolve(text: str, value: object) -> None:
    resolved = resolve_scalar(text)
    assert resolved == value
    assert type(resolved) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (True, "true"), (False, "false"), (2, "2"), (488, "488"), (3.1, "3.1"), (1.0,
        "1"),
        (0.1, "0.1"), (1e7, "1e+07"), (123456.0, "123456"), (1.5e-5, "1.5e-05"), (0.0001, "0.0001"),
        (-2.5, "-2.5"), (0.0, "0"), (math.inf, "+Inf"),
    ],
)  # fmt: skip
def test_as_text(value: float | None, text: str) -> None:
    assert scalar_text(value) == text
