"""Check a reply against what CVAT accepts: its shapes, and every problem at its place."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.cvat import masks
from fnbuild.cvat.detections import (
    INTERVAL,
    POINT_COUNTS,
    SHAPE_TYPES,
    DetectionReader,
    parse_confidence,
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

# The only model whose replies CVAT's page decodes itself, and the bytes of its embedding.
EMBEDDING_MODEL = "pth-facebookresearch-sam-vit-h"
EMBEDDING_SIZE = 256 * 64 * 64 * 4


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """The content of a reply. `matches` is for re-identification, `states` for trackers."""

    shapes: tuple[Shape, ...] = ()
    diagnostics: tuple[ReplyDiagnostic, ...] = ()
    matches: tuple[int, ...] = ()
    states: tuple[Any, ...] = ()

    @property
    def violations(self) -> tuple[ReplyDiagnostic, ...]:
        return tuple(
            diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"
        )


def read_reply(
    kind: str,
    body: Any,
    labels: list[Label],
    image_size: Size,
    sent: CvatRequest | None = None,
) -> ParsedReply:
    """Read a reply, as JSON text or a decoded value. An invalid reply never raises.

    `image_size` is width and height in pixels. `sent` is the request, which determines the number
    of boxes or shapes in the reply.
    """
    report = ReplyReport()
    if isinstance(body, bytes | bytearray | str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            report.add("reply-json", "", f"the reply is not JSON: {error}", _not_json_hint(body))
            return ParsedReply(diagnostics=tuple(report.items))
    shapes: list[Shape] = []
    matches: tuple[int, ...] = ()
    states: tuple[Any, ...] = ()
    if kind == "detector":
        labels_by_name = {label.name: label for label in labels}
        shapes = DetectionReader(labels_by_name, image_size, report).read(body)
    elif kind == "interactor":
        shapes = _read_interactor(body, image_size, report)
    elif kind == "tracker":
        shapes, states = _read_tracker(body, image_size, sent, report)
    elif kind == "reid":
        matches = _read_matches(body, sent, report)
    else:
        report.add("reply-kind", "", f'"{kind}" is not a kind of function that CVAT knows')
    place = "" if kind == "detector" else "shapes"
    warn_implausible(shapes, place, image_size, report)
    return ParsedReply(tuple(shapes), tuple(report.items), matches, states)


def _not_json_hint(body: bytes | bytearray | str) -> str | None:
    text = bytes(body[:200]) if isinstance(body, bytes | bytearray) else body[:200].encode()
    if b"'" in text:
        return "it looks like a printed Python value: return json.dumps(...)"
    return None


def _read_interactor(reply: Any, size: Size, report: ReplyReport) -> list[Shape]:
    if not isinstance(reply, dict):
        report.add(
            "reply-type", "", f"an interactor replies with an object, not with {json_type(reply)}"
        )
        return []
    if "shapes" in reply:
        if not isinstance(reply["shapes"], list):
            report.add("shapes-list", "shapes", f"must be a list, not {json_type(reply['shapes'])}")
            return []
        candidates = [
            _read_mask_shape(item, i, size, report) for i, item in enumerate(reply["shapes"])
        ]
        return [shape for shape in candidates if shape is not None]
    if "mask" in reply:
        mask = masks.from_rows(reply["mask"], "mask", size, report)
        return [Shape("mask", mask=mask)] if mask else []
    if "blob" in reply:
        _check_embedding(reply["blob"], report)
        return []
    report.add(
        "interactor-keys",
        "",
        'an interactor replies with "shapes" or "mask"; neither is there',
        f"keys found: {', '.join(map(str, reply)) or 'none'}",
    )
    return []


def _read_mask_shape(item: Any, index: int, size: Size, report: ReplyReport) -> Shape | None:
    path = f"shapes[{index}]"
    if not isinstance(item, dict):
        report.add("item-type", path, f"must be an object, not {json_type(item)}")
        return None
    kind = item.get("type")
    if kind != "mask":
        report.add(
            "interactor-shape",
            f"{path}.type",
            f"{json_excerpt(kind)}: CVAT's page keeps only masks",
        )
        if not isinstance(kind, str) or kind not in POINT_COUNTS:
            return None
        points = read_points(kind, item, path, size, report)
        return Shape(kind, points or (), index=index) if points else None
    runs = read_numbers(item.get("points"), f"{path}.points", report)
    mask = masks.from_runs(runs, f"{path}.points", size, report) if runs is not None else None
    confidence = _read_mask_confidence(item, path, report)
    return Shape("mask", mask=mask, confidence=confidence, index=index) if mask else None


def _read_mask_confidence(item: dict[str, Any], path: str, report: ReplyReport) -> float | None:
    """Return an interactor's confidence, which is the attribute with the id 0."""
    attributes = item.get("attributes", [])
    if not isinstance(attributes, list) or not all(isinstance(item, dict) for item in attributes):
        report.add("attributes-list", f"{path}.attributes", "must be a list of objects")
        return None
    for i, attribute in enumerate(attributes):
        if attribute.get("spec_id") != 0:
            continue
        place = f"{path}.attributes[{i}]"
        if not isinstance(attribute.get("value"), str):
            report.add(
                "interactor-confidence",
                f"{place}.value",
                f"must be a string, not {json_type(attribute.get('value'))}",
            )
        return parse_confidence(attribute.get("value"), f"{place}.value", report)
    return None


def _check_embedding(blob: Any, report: ReplyReport) -> None:
    try:
        size = len(base64.b64decode(blob, validate=True))
    except (TypeError, ValueError):
        report.add("embedding", "blob", "must be standard base64")
        return
    if size != EMBEDDING_SIZE:
        report.add(
            "embedding",
            "blob",
            f"holds {size} bytes; an embedding has {EMBEDDING_SIZE} (256 x 64 x 64 float32)",
        )
    report.add(
        "embedding-name",
        "blob",
        f"CVAT's page decodes it only for a function named {EMBEDDING_MODEL}",
    )


def _read_tracker(
    reply: Any, size: Size, sent: CvatRequest | None, report: ReplyReport
) -> tuple[list[Shape], tuple[Any, ...]]:
    if not isinstance(reply, dict):
        report.add(
            "reply-type", "", f"a tracker replies with an object, not with {json_type(reply)}"
        )
        return [], ()
    states = reply.get("states")
    if not isinstance(states, list):
        report.add(
            "tracker-states",
            "states",
            "must be a list with one state for each shape: CVAT fails without",
        )
        states = []
    expected = sent.counts[0] if sent and sent.counts else None
    if expected is not None and len(states) != expected:
        report.add("tracker-count", "states", f"has {len(states)} entries for {expected} shapes")
    if "shapes" not in reply and not (sent and sent.continues_track):
        return [], tuple(states)
    shapes = reply.get("shapes")
    if not isinstance(shapes, list):
        report.add(
            "shapes-list",
            "shapes",
            f"must be a list with one entry for each state, not {json_type(shapes)}",
        )
        return [], tuple(states)
    if len(shapes) != (len(states) if expected is None else expected):
        report.add(
            "tracker-count",
            "shapes",
            f"has {len(shapes)} entries for {expected or len(states)} shapes",
        )
    types = sent.shape_types if sent else None
    candidates = [
        _read_tracked_shape(shape, i, size, types, report) for i, shape in enumerate(shapes)
    ]
    return [shape for shape in candidates if shape is not None], tuple(states)


_TRACKED = (*POINT_COUNTS, "mask")


def _read_tracked_shape(
    item: Any, index: int, size: Size, types: tuple[str, ...] | None, report: ReplyReport
) -> Shape | None:
    path = f"shapes[{index}]"
    if item is None:
        if not types:
            report.add(
                "tracker-lost",
                path,
                "null: the server accepts it, CVAT's page fails on lost rectangles",
            )
        return None
    if isinstance(item, dict):
        if types == ():
            report.add(
                "tracker-shape",
                path,
                "is an object: without `supported_shape_types`, CVAT expects a list of numbers",
                "declare the annotation `supported_shape_types`, or write [x1, y1, x2, y2]",
            )
        elif types and item.get("type") in _TRACKED and item["type"] not in types:
            report.add(
                "tracker-shape",
                f"{path}.type",
                f"is {item['type']}, and the tracked shape is one of {', '.join(types)}",
            )
        return _read_typed_shape(item, index, size, report)
    if types and isinstance(item, list):
        report.add(
            "tracker-shape",
            path,
            "is a list: with `supported_shape_types`, CVAT expects an object",
            'write `{"type": …, "points": […]}`',
        )
    flat = read_numbers(item, path, report)
    if flat is None:
        return None
    if len(flat) < 4 or len(flat) % 2:
        report.add(
            "points-count",
            path,
            f"has {len(flat)} numbers: 4 of a rectangle, or pairs of a polygon",
        )
        return None
    # CVAT's page converts any list of corners into their bounding rectangle.
    xs, ys = flat[::2], flat[1::2]
    box = (min(xs), min(ys), max(xs), max(ys))
    read_points("rectangle", {"points": list(box)}, path, size, report)
    return Shape("rectangle", box, index=index)


def _read_typed_shape(
    item: dict[str, Any], index: int, size: Size, report: ReplyReport
) -> Shape | None:
    path = f"shapes[{index}]"
    kind = item.get("type")
    if kind == "mask":
        runs = read_numbers(item.get("points"), f"{path}.points", report)
        mask = masks.from_runs(runs or (), f"{path}.points", size, report)
        return Shape("mask", mask=mask, index=index) if mask else None
    if not isinstance(kind, str) or kind not in POINT_COUNTS:
        report.add(
            "tracker-shape",
            f"{path}.type",
            f"{json_excerpt(kind)} is not a shape that can be tracked",
        )
        return None
    points = read_points(kind, item, path, size, report)
    return Shape(kind, points, index=index) if points else None


def _read_matches(reply: Any, sent: CvatRequest | None, report: ReplyReport) -> tuple[int, ...]:
    if not isinstance(reply, list):
        report.add(
            "reply-type", "", f"re-identification replies with a list, not with {json_type(reply)}"
        )
        return ()
    first, second = sent.counts if sent and len(sent.counts) == 2 else (None, None)
    if first is not None and len(reply) != first:
        report.add(
            "reid-length", "", f"has {len(reply)} entries for {first} boxes of the first image"
        )
    taken: dict[int, int] = {}
    for i, item in enumerate(reply):
        if not is_number(item) or item != int(item):
            report.add("reid-index", f"[{i}]", f"must be a whole number, not {json_excerpt(item)}")
            return ()
        if item < -1 or (second is not None and item >= second):
            last = "" if second is None else f" to {second - 1}"
            report.add(
                "reid-index",
                f"[{i}]",
                f"{item} is not a box of the second image (0{last}, -1 for none)",
            )
        elif item >= 0 and item in taken:
            report.add(
                "reid-repeated", f"[{i}]", f"box {item} is matched already by entry {taken[item]}"
            )
        taken.setdefault(item, i)
    return tuple(int(item) for item in reply)


_TINY_IMAGE = 2
"""Images of at most this width and height may have shapes from 0 to 1."""


def warn_implausible(shapes: Sequence[Shape], place: str, size: Size, report: ReplyReport) -> None:
    """Warn once about each kind of implausible value in a valid reply.

    These are coordinates from 0 to 1, and intervals on an image. `place` is
    the path of the shapes in the reply, such as `shapes`.
    """
    fractions = [shape for shape in shapes if _is_normalized(shape)]
    if fractions and min(size) > _TINY_IMAGE:
        width, height = size
        subject = "the shape has" if len(fractions) == 1 else f"{len(fractions)} shapes have"
        report.add(
            "coordinates-normalized",
            f"{place}[{fractions[0].index}].points",
            f"{subject} only coordinates from 0 to 1, and CVAT expects pixels",
            f"multiply x by the image's width ({width}) and y by its height ({height})",
        )
    intervals = [shape for shape in shapes if shape.type == INTERVAL]
    if intervals:
        subject = "an interval" if len(intervals) == 1 else f"{len(intervals)} intervals"
        report.add(
            "interval-shape",
            f"{place}[{intervals[0].index}].type",
            f"{subject} of audio cannot be drawn on an image",
            f"shapes on images are {', '.join(SHAPE_TYPES)}",
        )


def _is_normalized(shape: Shape) -> bool:
    points = shape.points or tuple(value for element in shape.elements for value in element.points)
    inside = all(0 <= value <= 1 for value in points)
    return len(points) > 1 and inside and any(value != int(value) for value in points)
