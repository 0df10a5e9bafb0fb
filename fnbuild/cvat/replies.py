"""Check a reply against what CVAT accepts: its shapes, and every problem at its place."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.cvat import masks
from fnbuild.cvat.detections import (
    INTERVAL,
    POINT_COUNTS,
    SHAPE_TYPES,
    DetectionReader,
    read_confidence,
    read_points,
)
from fnbuild.cvat.reply_report import (
    ReplyDiagnostic,
    ReplyReport,
    is_number,
    json_excerpt,
    json_type,
    read_numbers,
)
from fnbuild.cvat.request import CvatRequest
from fnbuild.cvat.shapes import Shape, Size
from fnbuild.function.labels import Label

_TINY_IMAGE = 2
"""Images of at most this many pixels across may have shapes from 0 to 1."""


def warn_implausible(
    shapes: Sequence[Shape], place: str, size: Size, problems: ReplyReport
) -> None:
    """Warn once about each. `place` is the path of the shapes in the reply, such as `shapes`."""
    fractions = [shape for shape in _with_coordinates(shapes) if _is_normalized(shape)]
    if fractions and min(size) > _TINY_IMAGE:
        width, height = size
        problems.warning(
            f"{place}[{fractions[0].index}].points",
            f"{_shapes_have(len(fractions))} coordinates from 0 to 1 alone, and CVAT takes pixels",
            f"multiply x by the image's width ({width}) and y by its height ({height})",
        )
    intervals = [shape for shape in shapes if shape.type == INTERVAL]
    if intervals:
        problems.warning(
            f"{place}[{intervals[0].index}].type",
            f"{_count_intervals(len(intervals))} of audio cannot be drawn on an image",
            f"shapes on images are {', '.join(SHAPE_TYPES)}",
        )
    sure = [
        shape
        for shape in _with_elements(shapes)
        if shape.confidence is not None and shape.confidence > 1
    ]
    if sure:
        problems.warning(
            f"{place}[{sure[0].index}].confidence",
            f"{sure[0].confidence:g} is above 1: a confidence is a number from 0 to 1",
            "divide percentages by 100",
        )


def _shapes_have(count: int) -> str:
    return "the shape has" if count == 1 else f"{count} shapes have"


def _count_intervals(count: int) -> str:
    return "an interval" if count == 1 else f"{count} intervals"


def _with_coordinates(shapes: Sequence[Shape]) -> Iterator[Shape]:
    return (shape for shape in shapes if shape.points or shape.elements)


def _is_normalized(shape: Shape) -> bool:
    points = shape.points or tuple(value for element in shape.elements for value in element.points)
    inside = all(0 <= value <= 1 for value in points)
    return len(points) > 1 and inside and any(value != int(value) for value in points)


def _with_elements(shapes: Sequence[Shape]) -> Iterator[Shape]:
    """The shapes, and elements of skeletons as if they were their skeleton."""
    for shape in shapes:
        yield shape
        for element in shape.elements:
            if element.confidence is not None and element.confidence > 1:
                yield Shape(shape.type, confidence=element.confidence, index=shape.index)


# The one model whose replies CVAT's page decodes itself, and the bytes of its embedding.
EMBEDDING_MODEL = "pth-facebookresearch-sam-vit-h"
EMBEDDING_SIZE = 256 * 64 * 64 * 4


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What a reply holds. `matches` is re-identification's answer, `states` a tracker's."""

    shapes: tuple[Shape, ...] = ()
    problems: tuple[ReplyDiagnostic, ...] = ()
    matches: tuple[int, ...] = ()
    states: tuple[Any, ...] = ()

    @property
    def violations(self) -> tuple[ReplyDiagnostic, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


def read_reply(
    kind: str,
    body: Any,
    labels: list[Label],
    image_size: Size,
    sent: CvatRequest | None = None,
) -> ParsedReply:
    """Read a reply: JSON text, or the value it holds.

    `image_size` is width and height in pixels. `sent` is the request it answers, which says how
    many boxes or shapes the answer must have. A broken reply never raises: it becomes problems.
    """
    problems = ReplyReport()
    if isinstance(body, bytes | bytearray | str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            problems.error("", f"the reply is not JSON: {error}", _not_json_hint(body))
            return ParsedReply(problems=tuple(problems.items))
    shapes: list[Shape] = []
    matches: tuple[int, ...] = ()
    states: tuple[Any, ...] = ()
    if kind == "detector":
        shapes = DetectionReader({each.name: each for each in labels}, image_size, problems).read(
            body
        )
    elif kind == "interactor":
        shapes = _read_interactor(body, image_size, problems)
    elif kind == "tracker":
        shapes, states = _read_tracker(body, image_size, sent, problems)
    elif kind == "reid":
        matches = _read_matches(body, sent, problems)
    else:
        problems.error("", f'"{kind}" is no kind of function that CVAT knows')
    place = "" if kind == "detector" else "shapes"
    warn_implausible(shapes, place, image_size, problems)
    return ParsedReply(tuple(shapes), tuple(problems.items), matches, states)


def _not_json_hint(body: bytes | bytearray | str) -> str | None:
    text = bytes(body[:200]) if isinstance(body, bytes | bytearray) else body[:200].encode()
    if b"'" in text:
        return "it looks like a printed Python value: return json.dumps(...)"
    return None


def _read_interactor(reply: Any, size: Size, problems: ReplyReport) -> list[Shape]:
    if not isinstance(reply, dict):
        problems.error("", f"an interactor replies with an object, not with {json_type(reply)}")
        return []
    if "shapes" in reply:
        if not isinstance(reply["shapes"], list):
            problems.error("shapes", f"must be a list, not {json_type(reply['shapes'])}")
            return []
        found = [
            _read_mask_shape(item, i, size, problems) for i, item in enumerate(reply["shapes"])
        ]
        return [shape for shape in found if shape is not None]
    if "mask" in reply:
        mask = masks.from_rows(reply["mask"], "mask", size, problems)
        return [Shape("mask", mask=mask)] if mask else []
    if "blob" in reply:
        _check_embedding(reply["blob"], problems)
        return []
    problems.error(
        "",
        'an interactor replies with "shapes" or "mask"; neither is there',
        f"keys found: {', '.join(map(str, reply)) or 'none'}",
    )
    return []


def _read_mask_shape(item: Any, index: int, size: Size, problems: ReplyReport) -> Shape | None:
    path = f"shapes[{index}]"
    if not isinstance(item, dict):
        problems.error(path, f"must be an object, not {json_type(item)}")
        return None
    kind = item.get("type")
    if kind != "mask":
        problems.warning(f"{path}.type", f"{json_excerpt(kind)}: CVAT's page keeps only masks")
        if not isinstance(kind, str) or kind not in POINT_COUNTS:
            return None
        points = read_points(kind, item, path, size, problems)
        return Shape(kind, points or (), index=index) if points else None
    runs = read_numbers(item.get("points"), f"{path}.points", problems)
    mask = masks.from_runs(runs, f"{path}.points", size, problems) if runs is not None else None
    confidence = _read_mask_confidence(item, path, problems)
    return Shape("mask", mask=mask, confidence=confidence, index=index) if mask else None


def _read_mask_confidence(item: dict[str, Any], path: str, problems: ReplyReport) -> float | None:
    """An interactor's confidence is its attribute with the number 0."""
    attributes = item.get("attributes", [])
    if not isinstance(attributes, list) or not all(isinstance(each, dict) for each in attributes):
        problems.error(f"{path}.attributes", "must be a list of objects")
        return None
    for i, each in enumerate(attributes):
        if each.get("spec_id") != 0:
            continue
        place = f"{path}.attributes[{i}]"
        if not isinstance(each.get("value"), str):
            problems.error(
                f"{place}.value", f"must be a string, not {json_type(each.get('value'))}"
            )
        return read_confidence({"confidence": each.get("value")}, place, problems)
    return None


def _check_embedding(blob: Any, problems: ReplyReport) -> None:
    try:
        size = len(base64.b64decode(blob, validate=True))
    except (binascii.Error, TypeError, ValueError):
        problems.error("blob", "must be standard base64")
        return
    if size != EMBEDDING_SIZE:
        problems.error(
            "blob",
            f"holds {size} bytes; an embedding has {EMBEDDING_SIZE} (256 x 64 x 64 float32)",
        )
    problems.warning("blob", f"CVAT's page decodes it only for a function named {EMBEDDING_MODEL}")


def _read_tracker(
    reply: Any, size: Size, sent: CvatRequest | None, problems: ReplyReport
) -> tuple[list[Shape], tuple[Any, ...]]:
    if not isinstance(reply, dict):
        problems.error("", f"a tracker replies with an object, not with {json_type(reply)}")
        return [], ()
    states = reply.get("states")
    if not isinstance(states, list):
        problems.error("states", "must be a list with one state for each shape: CVAT fails without")
        states = []
    expected = sent.counts[0] if sent and sent.counts else None
    if expected is not None and len(states) != expected:
        problems.error("states", f"has {len(states)} entries for {expected} shapes")
    if "shapes" not in reply and not (sent and sent.follows):
        return [], tuple(states)
    shapes = reply.get("shapes")
    if not isinstance(shapes, list):
        problems.error(
            "shapes", f"must be a list with one entry for each state, not {json_type(shapes)}"
        )
        return [], tuple(states)
    if len(shapes) != (len(states) if expected is None else expected):
        problems.error("shapes", f"has {len(shapes)} entries for {expected or len(states)} shapes")
    found = [_read_tracked_shape(shape, i, size, problems) for i, shape in enumerate(shapes)]
    return [shape for shape in found if shape is not None], tuple(states)


def _read_tracked_shape(item: Any, index: int, size: Size, problems: ReplyReport) -> Shape | None:
    path = f"shapes[{index}]"
    if item is None:
        problems.warning(path, "null: the server takes it, CVAT's page fails on lost rectangles")
        return None
    if isinstance(item, dict):
        kind = item.get("type")
        if not isinstance(kind, str) or kind not in POINT_COUNTS:
            problems.error(f"{path}.type", f"{json_excerpt(kind)} is no shape that can be tracked")
            return None
        points = read_points(kind, item, path, size, problems)
        return Shape(kind, points, index=index) if points else None
    flat = read_numbers(item, path, problems)
    if flat is None:
        return None
    if len(flat) < 4 or len(flat) % 2:
        problems.error(path, f"has {len(flat)} numbers: 4 of a rectangle, or pairs of a polygon")
        return None
    # CVAT's page makes a rectangle of any list of corners: their least and greatest.
    xs, ys = flat[::2], flat[1::2]
    box = (min(xs), min(ys), max(xs), max(ys))
    read_points("rectangle", {"points": list(box)}, path, size, problems)
    return Shape("rectangle", box, index=index)


def _read_matches(reply: Any, sent: CvatRequest | None, problems: ReplyReport) -> tuple[int, ...]:
    if not isinstance(reply, list):
        problems.error("", f"re-identification replies with a list, not with {json_type(reply)}")
        return ()
    first, second = sent.counts if sent and len(sent.counts) == 2 else (None, None)
    if first is not None and len(reply) != first:
        problems.error("", f"has {len(reply)} entries for {first} boxes of the first image")
    taken: dict[int, int] = {}
    for i, item in enumerate(reply):
        if not is_number(item) or item != int(item):
            problems.error(f"[{i}]", f"must be a whole number, not {json_excerpt(item)}")
            return ()
        if item < -1 or (second is not None and item >= second):
            last = "" if second is None else f" to {second - 1}"
            problems.error(f"[{i}]", f"{item} is no box of the second image (0{last}, -1 for none)")
        elif item >= 0 and item in taken:
            problems.warning(f"[{i}]", f"box {item} is matched already by entry {taken[item]}")
        taken.setdefault(item, i)
    return tuple(int(item) for item in reply)
