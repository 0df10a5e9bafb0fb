"""Warnings about valid but implausible replies: coordinates from 0 to 1, confidences above 1,
intervals on an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fnbuild.check.detections import INTERVAL, TYPES
from fnbuild.check.problems import Problems
from fnbuild.check.shapes import Shape, Size

_MINUTE = 2
"""Images of at most this many pixels across may have shapes from 0 to 1."""


def judge(shapes: Sequence[Shape], place: str, size: Size, problems: Problems) -> None:
    """Warn once about each. `place` is the path of the shapes in the reply, such as `shapes`."""
    fractions = [shape for shape in _placed(shapes) if _in_fractions(shape)]
    if fractions and min(size) > _MINUTE:
        width, height = size
        problems.warning(
            f"{place}[{fractions[0].index}].points",
            f"{_how_many(len(fractions))} coordinates from 0 to 1 alone, and CVAT takes pixels",
            f"multiply x by the image's width ({width}) and y by its height ({height})",
        )
    intervals = [shape for shape in shapes if shape.type == INTERVAL]
    if intervals:
        problems.warning(
            f"{place}[{intervals[0].index}].type",
            f"{_number_of(len(intervals))} of audio cannot be drawn on an image",
            f"shapes on images are {', '.join(TYPES)}",
        )
    sure = [
        shape for shape in _all(shapes) if shape.confidence is not None and shape.confidence > 1
    ]
    if sure:
        problems.warning(
            f"{place}[{sure[0].index}].confidence",
            f"{sure[0].confidence:g} is above 1: a confidence is a number from 0 to 1",
            "divide percentages by 100",
        )


def _how_many(count: int) -> str:
    return "the shape has" if count == 1 else f"{count} shapes have"


def _number_of(count: int) -> str:
    return "an interval" if count == 1 else f"{count} intervals"


def _placed(shapes: Sequence[Shape]) -> Iterator[Shape]:
    return (shape for shape in shapes if shape.points or shape.elements)


def _in_fractions(shape: Shape) -> bool:
    points = shape.points or tuple(value for element in shape.elements for value in element.points)
    inside = all(0 <= value <= 1 for value in points)
    return len(points) > 1 and inside and any(value != int(value) for value in points)


def _all(shapes: Sequence[Shape]) -> Iterator[Shape]:
    """The shapes, and elements of skeletons as if they were their skeleton."""
    for shape in shapes:
        yield shape
        for element in shape.elements:
            if element.confidence is not None and element.confidence > 1:
                yield Shape(shape.type, confidence=element.confidence, index=shape.index)
