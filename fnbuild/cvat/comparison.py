"""Compare two replies to the same request, by the function's kind.

Shapes are matched by label and type. Their similarity is from 0 to 1: the intersection over union
of areas, and for points and lines the distance in relation to the size of the shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw

from fnbuild.cvat.check.comparison import find_difference
from fnbuild.cvat.drawing import outline
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.shapes import Box, Mask, Point, Shape, Size, bounding_box
from fnbuild.function.labels import Label

# Shapes that are less similar are different shapes, not a shape that moved.
_LEAST_SIMILAR = 0.1
# The largest side of the raster that polygons are compared on.
_RASTER = 512
_AREAS = ("rectangle", "polygon", "ellipse", "mask")
# The size of a shape without one, such as a single point, as a part of the picture's diagonal.
_POINT_SIZE = 0.05


@dataclass(slots=True)
class Comparison:
    """The differences of two replies. `worst` is the least similarity of matched shapes.

    `same` and `moved` count matched parts; `added` and `removed` are only in one of the replies.
    `note` describes a difference that is not one of shapes.
    """

    same: int = 0
    added: int = 0
    removed: int = 0
    moved: int = 0
    worst: float | None = None
    note: str = ""
    before: list[Shape] = field(default_factory=list)
    after: list[Shape] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        return bool(self.added or self.removed or self.moved or self.note)

    @property
    def badness(self) -> tuple[bool, int, float]:
        """A key that sorts the worst comparison last."""
        changed = self.added + self.removed + self.moved
        return bool(self.note), changed, -(1.0 if self.worst is None else self.worst)


def compare_replies(  # noqa: PLR0913, PLR0917 - the replies, and how to read them
    kind: str | None,
    before: bytes,
    after: bytes,
    labels: list[Label],
    size: Size | None,
    least: float,
) -> Comparison:
    """Compare two replies; matched shapes with a similarity of at least `least` are the same."""
    if kind == "reid":
        return _compare_matches(before, after)
    if kind in ("detector", "interactor", "tracker") and size is not None:
        old, new = (list(read_reply(kind, body, labels, size).shapes) for body in (before, after))
        if old or new:
            return compare_shapes(old, new, size, least, ordered=kind == "tracker")
    return _compare_values(before, after, ignored=("states",) if kind == "tracker" else ())


def compare_shapes(
    before: list[Shape], after: list[Shape], size: Size, least: float, *, ordered: bool = False
) -> Comparison:
    """Compare shapes in pixels of a picture; `ordered` ones are matched by their index."""
    result = Comparison(before=before, after=after)
    candidates = sorted(
        (
            (similarity(old, new, size), i, j)
            for i, old in enumerate(before)
            for j, new in enumerate(after)
            if (old.index == new.index if ordered else _may_match(old, new))
        ),
        reverse=True,
    )
    old_left, new_left = set(range(len(before))), set(range(len(after)))
    for value, i, j in candidates:
        if i not in old_left or j not in new_left or not (ordered or value >= _LEAST_SIMILAR):
            continue
        old_left.remove(i)
        new_left.remove(j)
        result.worst = value if result.worst is None else min(result.worst, value)
        if value >= least and before[i].attributes == after[j].attributes:
            result.same += 1
        else:
            result.moved += 1
    result.removed, result.added = len(old_left), len(new_left)
    return result


def _may_match(old: Shape, new: Shape) -> bool:
    if old.label != new.label or old.type != new.type:
        return False
    a, b = bounding_box(old), bounding_box(new)
    if a is None or b is None:
        return a is b
    # Points and lines have boxes without an area.
    margin = max(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1], 10.0)
    return (
        a[0] <= b[2] + margin
        and b[0] <= a[2] + margin
        and a[1] <= b[3] + margin
        and b[1] <= a[3] + margin
    )


def similarity(old: Shape, new: Shape, size: Size) -> float:
    """Return how similar two shapes of the same type are, from 0 to 1."""
    if old.type != new.type:
        return 0.0
    if old.mask is not None and new.mask is not None:
        return _mask_iou(old.mask, new.mask)
    if old.type in _AREAS:
        return _area_iou(old, new)
    if old.type == "skeleton":
        return _skeleton_similarity(old, new, size)
    return _point_similarity(old.pairs, new.pairs, size)


def _area_iou(old: Shape, new: Shape) -> float:
    a, b = bounding_box(old), bounding_box(new)
    if a is None or b is None:
        return float(a is b)
    if old.type == "rectangle" and not (old.rotation or new.rotation):
        return _box_iou(a, b)
    return _raster_iou(outline(old), outline(new), a, b)


def _ratio(common: float, first: float, second: float) -> float:
    union = first + second - common
    return common / union if union > 0 else 1.0


def _box_iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    if a == b:
        return 1.0
    return _ratio(max(0.0, width) * max(0.0, height), *areas)


def _mask_iou(a: Mask, b: Mask) -> float:
    left, right = max(a.left, b.left), min(a.right, b.right)
    top, bottom = max(a.top, b.top), min(a.bottom, b.bottom)
    common = 0
    if left <= right and top <= bottom:
        parts = [_cut(mask, left, right, top, bottom) for mask in (a, b)]
        common = _common_bits(*parts)
    return _ratio(common, a.area, b.area)


def _cut(mask: Mask, left: int, right: int, top: int, bottom: int) -> bytes:
    """Return the pixels of a part of the mask's box."""
    width = mask.right - mask.left + 1
    rows = ((y - mask.top) * width for y in range(top, bottom + 1))
    return b"".join(mask.bits[row + left - mask.left : row + right - mask.left + 1] for row in rows)


def _common_bits(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first, "big") & int.from_bytes(second, "big")).bit_count()


def _raster_iou(first: Sequence[Point], second: Sequence[Point], a: Box, b: Box) -> float:
    """Return the intersection over union of two polygons, drawn on a common raster."""
    xs, ys = zip(*first, *second, strict=True)
    left, top = min(xs), min(ys)
    reach = max(max(xs) - left, max(ys) - top, 1.0)
    if not math.isfinite(reach):
        return float(first == second)
    scale = _RASTER / reach
    extent = (
        math.ceil((max(xs) - left) * scale) + 1,
        math.ceil((max(ys) - top) * scale) + 1,
    )
    drawn = []
    for points in (first, second):
        layer = Image.new("L", extent)
        moved = [((x - left) * scale, (y - top) * scale) for x, y in points]
        if len(moved) > 1:
            ImageDraw.Draw(layer).polygon(moved, fill=1)
        drawn.append(layer.tobytes())
    if not any(map(any, drawn)):
        return _box_iou(a, b)
    return _ratio(_common_bits(*drawn), drawn[0].count(1), drawn[1].count(1))


def _point_similarity(old: Sequence[Point], new: Sequence[Point], size: Size) -> float:
    if len(old) != len(new):
        return 0.0
    if not old:
        return 1.0
    xs, ys = zip(*old, *new, strict=True)
    reach = math.hypot(max(xs) - min(xs), max(ys) - min(ys))
    reach = reach if len(old) > 1 else _POINT_SIZE * math.hypot(*size)
    distance = sum(math.dist(*pair) for pair in zip(old, new, strict=True)) / len(old)
    return max(0.0, 1.0 - distance / reach) if reach else float(distance == 0)


def _skeleton_similarity(old: Shape, new: Shape, size: Size) -> float:
    """Compare the visible points by name; one that only one skeleton has counts as far away."""
    first, second = (
        {element.label: element.pairs[0] for element in shape.elements if not element.outside}
        for shape in (old, new)
    )
    common = [name for name in first if name in second]
    count = len({**first, **second})
    if not common:
        return 0.0 if count else 1.0
    pairs = [first[name] for name in common], [second[name] for name in common]
    return _point_similarity(pairs[0], pairs[1], size) * len(common) / count


def _compare_matches(before: bytes, after: bytes) -> Comparison:
    """Compare the indexes of re-identification one by one."""
    values = [_decode(body) for body in (before, after)]
    if not all(isinstance(value, list) for value in values):
        return _compare_values(before, after)
    old, new = values
    same = sum(a == b for a, b in zip(old, new, strict=False))
    length = min(len(old), len(new))
    return Comparison(same, len(new) - length, len(old) - length, length - same)


def _compare_values(before: bytes, after: bytes, ignored: Sequence[str] = ()) -> Comparison:
    """Compare replies as JSON, or as bytes if they are none; numbers may differ a little."""
    old, new = _decode(before), _decode(after)
    for key in ignored:
        for value in (old, new):
            if isinstance(value, dict):
                value.pop(key, None)
    place = None if before == after else find_difference(old, new)
    if place is None:
        return Comparison(same=1)
    return Comparison(moved=1, note=f"{place or 'the reply'} differs")


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body
