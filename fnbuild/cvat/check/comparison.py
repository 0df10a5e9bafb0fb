"""Compare two replies: exactly but for rounding, or by their shapes."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any

from fnbuild.cvat.replies import ParsedReply
from fnbuild.cvat.shapes import Shape, bounding_box

# GPUs add up in any order, and confidences are rounded to two decimals.
_RELATIVE, _ABSOLUTE = 1e-3, 0.02
_PIXELS = 2.0


def find_difference(first: Any, second: Any, path: str = "") -> str | None:
    """Return the path of the first difference beyond rounding; None if the values are equal."""
    if isinstance(first, dict) and isinstance(second, dict):
        pairs = [
            (key, first.get(key, _MISSING), second.get(key, _MISSING)) for key in first | second
        ]
        places = [
            (f"{path}.{key}" if path else str(key), left, right) for key, left, right in pairs
        ]
    elif isinstance(first, list) and isinstance(second, list) and first != second:
        items = enumerate(zip_longest(first, second, fillvalue=_MISSING))
        places = [(f"{path}[{i}]", left, right) for i, (left, right) in items]
    else:
        return None if first == second or _are_close(first, second) else path
    differences = (find_difference(left, right, place) for place, left, right in places)
    return next((place for place in differences if place is not None), None)


_MISSING = object()


def _are_close(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or isinstance(second, bool):
        return False
    try:
        # Confidences are strings.
        return math.isclose(float(first), float(second), rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    except (TypeError, ValueError):
        return False


def shapes_differ(first: ParsedReply, second: ParsedReply) -> str | None:
    """Return how the shapes of two replies differ; None if they are equal within two pixels."""
    if len(first.shapes) != len(second.shapes):
        return f"{len(first.shapes)} shapes and {len(second.shapes)}"
    pairs = zip(sorted(first.shapes, key=_order), sorted(second.shapes, key=_order), strict=True)
    for left, right in pairs:
        if left.label != right.label:
            return f'"{left.label}" and "{right.label}"'
        boxes = bounding_box(left) or (), bounding_box(right) or ()
        distances = [abs(a - b) for a, b in zip(*boxes, strict=False)]
        if max(distances, default=0.0) > _PIXELS:
            return f"{left.summary()} and {right.summary()}"
    return None


def _order(shape: Shape) -> tuple[Any, ...]:
    return shape.label, bounding_box(shape) or ()
