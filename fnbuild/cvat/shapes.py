"""Shapes in replies: one typed value for all kinds of functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mask:
    """The pixels of a part of the image.

    `left`, `top`, `right`, `bottom` are inclusive. `bits` has one byte, 0 or 1, for each pixel of
    this box, by rows.
    """

    left: int
    top: int
    right: int
    bottom: int
    bits: bytes

    @property
    def size(self) -> Size:
        return self.right - self.left + 1, self.bottom - self.top + 1

    @property
    def area(self) -> int:
        return self.bits.count(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape in pixels of the whole image.

    `points` is flat (x1, y1, x2, y2 …); `rotation` is in degrees, clockwise; `confidence` is None
    if the reply has none; `index` is the shape's index in the reply.
    """

    type: str
    points: tuple[float, ...] = ()
    label: str = ""
    confidence: float | None = None
    rotation: float = 0.0
    attributes: tuple[tuple[str, str], ...] = ()
    elements: tuple[Shape, ...] = ()
    mask: Mask | None = None
    outside: bool = False
    index: int = 0

    @property
    def pairs(self) -> list[Point]:
        return list(zip(self.points[::2], self.points[1::2], strict=False))

    def summary(self) -> str:
        """Return a summary of the points for tables, in whole pixels."""
        if self.mask is not None:
            mask = self.mask
            box = f"{mask.left},{mask.top} {mask.right},{mask.bottom}"
            return f"{mask.area} pixels in {box}"
        if self.type == "skeleton":
            visible = sum(not element.outside for element in self.elements)
            return f"{visible} of {len(self.elements)} points visible"
        if self.type == "interval":
            return "has no position on an image"
        pairs = [f"{format_decimal(x, 0)},{format_decimal(y, 0)}" for x, y in self.pairs]
        more = f" … ({len(pairs)} points)" if len(pairs) > 4 else ""
        rotation = f" turned {self.rotation:g}°" if self.rotation else ""
        return " ".join(pairs[:4]) + more + rotation


def format_decimal(value: float, digits: int) -> str:
    """Return a number with fixed decimals; numbers beyond any image in scientific notation."""
    return f"{value:.{digits}f}" if abs(value) < 1e7 else f"{value:.3g}"


def table_rows(shapes: Iterable[Shape]) -> list[tuple[str, str, str, str]]:
    """Return label, type, confidence and points of each shape for tables."""
    return [
        (
            shape.label or "-",
            shape.type,
            "-" if shape.confidence is None else format_decimal(shape.confidence, 2),
            shape.summary() or "-",
        )
        for shape in shapes
    ]


def bounding_box(shape: Shape) -> Box | None:
    """Return the bounding box of a shape before rotation; None if it has no position."""
    if shape.mask is not None:
        mask = shape.mask
        return mask.left, mask.top, mask.right + 1, mask.bottom + 1
    points = shape.points
    if shape.type == "skeleton":
        points = tuple(p for e in shape.elements if not e.outside for p in e.points)
    if len(points) < 2:
        return None
    if shape.type == "ellipse" and len(points) >= 4:
        cx, cy, right, top = points[:4]
        rx, ry = abs(right - cx), abs(cy - top)
        return cx - rx, cy - ry, cx + rx, cy + ry
    xs, ys = points[::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def runs_to_bits(runs: Iterable[int]) -> bytes:
    """Return one byte for each pixel, from alternating run lengths that start with zeros."""
    return b"".join((b"\x01" if i % 2 else b"\x00") * run for i, run in enumerate(runs))


def crop_mask(rows: list[bytes]) -> Mask | None:
    """Crop the mask of a full image to its pixels' bounding box; None if the mask is empty."""
    ys = [y for y, row in enumerate(rows) if 1 in row]
    if not ys:
        return None
    top, bottom = ys[0], ys[-1]
    left = min(rows[y].find(1) for y in ys)
    right = max(rows[y].rfind(1) for y in ys)
    bits = b"".join(row[left : right + 1] for row in rows[top : bottom + 1])
    return Mask(left, top, right, bottom, bits)
