"""Draw the shapes of a reply over the image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from fnbuild.cvat.canvas import Canvas, open_rgb
from fnbuild.cvat.request import CvatRequest
from fnbuild.cvat.shapes import Box, Point, Shape, bounding_box, format_decimal
from fnbuild.errors import InputError, NotFoundError, UsageError
from fnbuild.function.labels import Colour, Label, label_colour, label_colours

# CVAT's order of a cuboid's corners: left front, right front, right back, left back, each top then
# bottom.
CUBOID_EDGES = (
    *((0, 1), (2, 3), (4, 5), (6, 7)),
    *((0, 2), (2, 4), (4, 6), (6, 0)),
    *((1, 3), (3, 5), (5, 7), (7, 1)),
)
CUBOID_FRONT = (0, 1, 3, 2)

POSITIVE: Colour = (0, 200, 90)
NEGATIVE: Colour = (240, 40, 50)

OUTPUT_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def draw_to_file(
    image: bytes,
    shapes: Iterable[Shape],
    labels: list[Label],
    out: Path,
    sent: CvatRequest | None = None,
) -> str:
    """Draw the shapes over the encoded image and write `out`, in the format its suffix names.

    `sent` adds the clicks and boxes of the request. Return the letters that no font on this machine
    has, which are drawn as boxes. Raises `UsageError` for an unknown suffix, and `InputError` if
    the file cannot be written.
    """
    encoding = output_format(out)
    canvas = draw_shapes(image, shapes, labels, sent)
    best = {"quality": 92, "subsampling": 0} if encoding == "JPEG" else {}
    try:
        canvas.image.save(out, encoding, **best)
    except OSError as error:
        raise InputError(f"cannot write the picture {out}: {error.strerror or error}") from None
    return "".join(sorted(canvas.missing_letters))


def output_format(out: Path) -> str:
    """Return the format of the file `out`, after checking that its folder exists.

    Raises `UsageError` or `NotFoundError`.
    """
    encoding = OUTPUT_FORMATS.get(out.suffix.lower())
    if encoding is None:
        raise UsageError(
            f'the picture\'s name "{out.name}" has no suffix of an image format',
            hint=f"use one of {', '.join(OUTPUT_FORMATS)}",
        )
    if not out.absolute().parent.is_dir():
        raise NotFoundError(f"the folder of the picture does not exist: {out.parent}")
    return encoding


def draw_shapes(
    image: bytes, shapes: Iterable[Shape], labels: list[Label], sent: CvatRequest | None = None
) -> Canvas:
    """Draw the shapes over the encoded image, and the prompts of the request `sent`."""
    canvas = Canvas(open_rgb(image))
    colour_by_label = label_colours(labels)
    by_name = {label.name: label for label in labels}
    ordered = sorted(shapes, key=_painting_order)
    for shape in ordered:
        _draw_shape(
            canvas, shape, by_name.get(shape.label), label_colour(shape.label, colour_by_label)
        )
    if sent is not None:
        _draw_prompts(canvas, sent)
    # Names are drawn last, so that no shape covers them.
    for shape in ordered:
        if shape.type == "skeleton":
            _draw_point_names(canvas, shape)
    for shape in ordered:
        _draw_name(canvas, shape, label_colour(shape.label, colour_by_label))
    return canvas


def _painting_order(shape: Shape) -> float:
    """Return the sort key that draws large areas first, so that small ones stay visible."""
    box = bounding_box(shape)
    return -(box[2] - box[0]) * (box[3] - box[1]) if box else -math.inf


def _draw_shape(canvas: Canvas, shape: Shape, label: Label | None, ink: Colour) -> None:
    box = _rotated_bounding_box(shape)
    if box is None:
        return
    pairs = outline(shape)
    match shape.type:
        case "mask":
            if shape.mask is not None:
                canvas.mask(shape.mask, ink)
        case "skeleton":
            _draw_skeleton(canvas, shape, label, ink, box)
        case "points":
            canvas.dots(box, ink, pairs, 2.4)
        case "polyline":
            canvas.stroke(box, ink, pairs)
            canvas.dots(box, ink, pairs, 1.5)
        case "cuboid":
            corners = [pairs[i] for i in CUBOID_FRONT]
            canvas.paint(box, ink, lambda pen: pen.area(corners), 0.22)
            for start, stop in CUBOID_EDGES:
                canvas.stroke(box, ink, [pairs[start], pairs[stop]])
        case _:
            fill = 0.28 if shape.type == "polygon" else 0.14
            canvas.paint(box, ink, lambda pen: pen.area(pairs), fill)
            canvas.stroke(box, ink, pairs, closed=True)


def _draw_skeleton(
    canvas: Canvas, shape: Shape, label: Label | None, ink: Colour, box: Box
) -> None:
    points = {element.label: element.pairs[0] for element in shape.elements if not element.outside}
    for start, stop in label.edges() if label else []:
        if start in points and stop in points:
            canvas.stroke(box, ink, [points[start], points[stop]])
    canvas.dots(box, ink, list(points.values()), 1.7)


def _draw_prompts(canvas: Canvas, sent: CvatRequest) -> None:
    for left, top, right, bottom in sent.boxes if sent.kind == "interactor" else ():
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        canvas.stroke((left, top, right, bottom), (255, 255, 255), corners, closed=True)
    for ink, points in ((POSITIVE, sent.pos_points), (NEGATIVE, sent.neg_points)):
        for x, y in points:
            canvas.dots((x, y, x, y), ink, [(x, y)], 2.6)


def _draw_name(canvas: Canvas, shape: Shape, ink: Colour) -> None:
    parts = [shape.label] if shape.label else []
    if shape.confidence is not None:
        parts.append(format_decimal(shape.confidence, 2))
    if not parts:
        return
    if shape.type == "tag":
        canvas.plate(" ".join(parts), (canvas.line * 3, canvas.line * 3), ink, inside=False)
        return
    pairs = outline(shape)
    box = _rotated_bounding_box(shape)
    if box is None:
        return
    # The name of a rotated shape is above its highest corner.
    at = min(pairs, key=lambda pair: pair[1]) if shape.rotation else (box[0], box[1])
    lift = canvas.line * 3 if shape.type in ("points", "skeleton") else 0.0
    canvas.plate(" ".join(parts), (at[0], at[1] - lift), ink)


def _draw_point_names(canvas: Canvas, shape: Shape) -> None:
    """Draw the names of a skeleton's points if the skeleton is large enough."""
    box = bounding_box(shape)
    if box is None or max(box[2] - box[0], box[3] - box[1]) < 6 * canvas.caption_size:
        return
    for element in shape.elements:
        if not element.outside:
            canvas.caption(element.label, element.pairs[0])


def outline(shape: Shape) -> list[Point]:
    """Return the corners to draw, after rotation."""
    box = bounding_box(shape)
    if box is None:
        return []
    left, top, right, bottom = box
    centre = (left + right) / 2, (top + bottom) / 2
    if shape.type == "ellipse":
        turns = [i * math.tau / 72 for i in range(72)]
        rx, ry = (right - left) / 2, (bottom - top) / 2
        around = [(centre[0] + rx * math.cos(t), centre[1] + ry * math.sin(t)) for t in turns]
        return [_rotate(point, centre, shape.rotation) for point in around]
    if shape.type == "rectangle":
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return [_rotate(point, centre, shape.rotation) for point in corners]
    return shape.pairs


def _rotate(point: Point, centre: Point, degrees: float) -> Point:
    """Rotate a point clockwise on the screen, where y increases downwards."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    dx, dy = point[0] - centre[0], point[1] - centre[1]
    return centre[0] + dx * cosine - dy * sine, centre[1] + dx * sine + dy * cosine


def _rotated_bounding_box(shape: Shape) -> Box | None:
    """Return the bounding box of a shape after rotation."""
    if not shape.rotation:
        return bounding_box(shape)
    pairs = outline(shape)
    if not pairs:
        return None
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    return min(xs), min(ys), max(xs), max(ys)
