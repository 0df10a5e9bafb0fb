"""The values of plain YAML scalars, resolved as by the Go YAML library that Nuclio uses.

Nuclio turns YAML into JSON with ghodss/yaml on yaml.v2: YAML 1.1 words (`yes`, `0750`, `1_000`),
and numbers or booleans in a text field become text again.
"""

from __future__ import annotations

import math
import re
import struct

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(
        ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True
    ),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE"), False),
    **dict.fromkeys(("off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}

_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_FIRST = frozenset("0123456789+-.~yYnNtTfFoO")
# Longer digit strings overflow every number type anyway, and int() is quadratic in their length.
_LONGEST_NUMBER = 64


def resolve_scalar(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar."""
    if not text:
        return None
    if text[0] not in _FIRST or len(text) > _LONGEST_NUMBER:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return _integer(text)
    return float(text) if _FLOAT.match(text) else text


def _integer(text: str) -> Scalar:
    plain = text.replace("_", "")
    sign = -1 if plain[0] == "-" else 1
    digits = plain.lstrip("+-")
    try:
        if digits[:2] in ("0b", "0x", "0o"):
            number = sign * int(digits, 0)
        elif len(digits) > 1 and digits[0] == "0":
            # A leading zero means octal, unless a digit says otherwise: 0750 is 488, 0890 is 890.
            number = sign * int(digits, 8)
        else:
            number = sign * int(digits)
    except ValueError:
        return float(plain) if _FLOAT.match(plain) else text
    if -(2**63) <= number < 2**64:
        return number
    return float(number) if _FLOAT.match(plain) else text


def scalar_text(value: Scalar) -> str:
    """Return the text that a value becomes in a text field; "" for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    return str(value)


def _float_text(value: float) -> str:
    # ghodss formats with Go's 'g' at 32 bits: the shortest digits that give the same float32.
    if not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    try:
        target = struct.pack("f", value)
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    for digits in range(9):
        mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
        if struct.pack("f", float(f"{mantissa}e{exponent}")) == target:
            break
    power = int(exponent)
    if power < -4 or power >= 6:
        return f"{mantissa}e{exponent}"
    return f"{float(f'{mantissa}e{exponent}'):.{max(0, digits - power)}f}"
