"""Durations in Go's notation and quantities in Kubernetes' notation."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_UNITS["h"] = 3600.0
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST = 2**63 / 1e9

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?))\Z"
)


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration such as `1h30m`, `500ms` or `0`. Raises ValueError.

    As in Go's time.ParseDuration, each number needs its unit.
    """
    rest = text
    sign = 1.0
    if rest[:1] in ("+", "-"):
        sign = -1.0 if rest[0] == "-" else 1.0
        rest = rest[1:]
    if rest == "0":
        return 0.0
    seconds, position = 0.0, 0
    while part := _PART.match(rest, position):
        seconds += float(part.group(1)) * _UNITS[part.group(2)]
        position = part.end()
    if position != len(rest) or not rest:
        raise ValueError(f"{text!r} is not a duration such as 30s, 500ms or 1h30m")
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than a duration can be (292 years)")
    return sign * seconds


def parse_quantity(text: str) -> Decimal:
    """Return the number of a Kubernetes quantity such as `500m`, `4Gi` or `1e3`.

    Raises ValueError.
    """
    match = _QUANTITY.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2, 4Gi or 1e9")
    number, exponent, suffix = match.groups()
    try:
        if exponent:
            return Decimal(number + exponent)
        if suffix in _BINARY:
            return Decimal(number) * _BINARY[suffix]
        return Decimal(number).scaleb(_DECIMAL[suffix or ""])
    except InvalidOperation:
        raise ValueError(f"{text!r} is out of a quantity's range") from None
