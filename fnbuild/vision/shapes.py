"""Shapes as CVAT reads them: dictionaries that can be encoded as JSON.

Coordinates are pixels of the whole image; they may be numbers of NumPy or tensors.
"""

import json
import math
from typing import Any, Dict, Iterable, List, Mapping, Optional

from .arrays import to_array

Shape = Dict[str, Any]


def rectangle(label: str, box: Any, confidence: Any = None, *, rotation: Any = 0) -> Shape:
    """Return a box of left, top, right, bottom; `rotation` in degrees, clockwise."""
    return _with_rotation(
        _shape("rectangle", label, _flat_coordinates(box, 4, 4), confidence), rotation
    )


def ellipse(
    label: str, centre: Any, radii: Any, confidence: Any = None, *, rotation: Any = 0
) -> Shape:
    """Return an ellipse with its radii along x and y; `rotation` as for rectangles."""
    (x, y), (rx, ry) = _flat_coordinates(centre, 2, 2), _flat_coordinates(radii, 2, 2)
    # CVAT expects the right end and the top end.
    return _with_rotation(_shape("ellipse", label, [x, y, x + rx, y - ry], confidence), rotation)


def polygon(label: str, corners: Any, confidence: Any = None) -> Shape:
    """Return a closed outline of at least three points, as pairs or as a flat list."""
    return _shape("polygon", label, _flat_coordinates(corners, 6), confidence)


def polyline(label: str, corners: Any, confidence: Any = None) -> Shape:
    """Return an open line of at least two points, as pairs or as a flat list."""
    return _shape("polyline", label, _flat_coordinates(corners, 4), confidence)


def points(label: str, places: Any, confidence: Any = None) -> Shape:
    """Return at least one point, as pairs or as a flat list."""
    return _shape("points", label, _flat_coordinates(places, 2), confidence)


def tag(label: str, confidence: Any = None) -> Shape:
    """Return a label of the whole image."""
    return _shape("tag", label, [], confidence)


def mask(label: str, pixels: Any, confidence: Any = None) -> Shape:
    """Return a mask from an array or a list of rows for the whole image.

    Raises `ValueError` if no pixel is set: omit such a shape.
    """
    shape = _shape("mask", label, [], confidence)
    shape["mask"] = _array_crop(pixels) if hasattr(pixels, "nonzero") else _list_crop(pixels)
    return shape


def skeleton(
    label: str,
    places: Mapping[str, Any],
    confidence: Any = None,
    *,
    hidden: Iterable[str] = (),
) -> Shape:
    """Return a skeleton of points by the names of its sublabels; `hidden` ones are not visible."""
    shape = _shape("skeleton", label, [], confidence)
    hidden_names = frozenset(hidden)
    shape["elements"] = [
        {
            "label": name,
            "type": "points",
            "points": _flat_coordinates(place, 2, 2),
            "outside": int(name in hidden_names),
        }
        for name, place in places.items()
    ]
    return shape


def reply(context: Any, content: Any, status: int = 200) -> Any:
    """Return the handler's reply with `content` as JSON."""
    return context.Response(
        body=json.dumps(content, allow_nan=False),
        headers={},
        content_type="application/json",
        status_code=status,
    )


def _shape(kind: str, label: str, numbers: List[float], confidence: Any) -> Shape:
    shape = {"label": str(label), "type": kind, "points": numbers}  # type: Shape
    if confidence is not None:
        # CVAT's own functions send it as a string.
        shape["confidence"] = "%.4f" % _number(confidence)
    return shape


def _with_rotation(shape: Shape, rotation: Any) -> Shape:
    degrees = _number(rotation) % 360
    if degrees:
        shape["rotation"] = degrees
    return shape


def _flat_coordinates(values: Any, least: int, most: Optional[int] = None) -> List[float]:
    numbers = []  # type: List[float]
    for value in values.tolist() if hasattr(values, "tolist") else values:
        try:
            numbers.append(_coordinate(value))
        except TypeError:
            numbers += [_coordinate(number) for number in value]
    if len(numbers) < least or (most is not None and len(numbers) > most) or len(numbers) % 2:
        expected = "%d" % least if most else "%d or more, and always pairs," % least
        raise ValueError("%s coordinates are needed, not %d" % (expected, len(numbers)))
    return numbers


def _coordinate(value: Any) -> float:
    # A hundredth of a pixel is more precise than any model, and keeps replies small.
    return round(_number(value), 2)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("%r is not a finite number" % number)
    return number


def _array_crop(pixels: Any) -> List[int]:
    pixels = to_array(pixels)
    if pixels.ndim != 2:
        raise ValueError("a mask has rows and columns, not %d dimensions" % pixels.ndim)
    # The indexes of all pixels would need far more memory than the mask.
    rows, columns = (pixels.any(axis).nonzero()[0] for axis in (1, 0))
    if not len(rows):
        raise ValueError("the mask has no pixel")
    box = [int(index) for index in (columns[0], rows[0], columns[-1], rows[-1])]
    left, top, right, bottom = box
    crop = pixels[top : bottom + 1, left : right + 1] != 0
    return crop.astype("uint8").ravel().tolist() + box  # type: ignore[no-any-return]


def _list_crop(pixels: Any) -> List[int]:
    rows = [[1 if value else 0 for value in row] for row in pixels]
    used = [y for y, row in enumerate(rows) if 1 in row]
    if not used:
        raise ValueError("the mask has no pixel")
    columns = [x for y in used for x, value in enumerate(rows[y]) if value]
    box = [min(columns), used[0], max(columns), used[-1]]
    flat = [value for row in rows[box[1] : box[3] + 1] for value in row[box[0] : box[2] + 1]]
    return flat + box
