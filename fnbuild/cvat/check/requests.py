"""The requests of a check: valid ones of each kind, and those that a function must refuse."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fnbuild.cvat.request import BOX_SHAPES, CvatRequest, EncodedImage, build_request
from fnbuild.cvat.shapes import Box
from fnbuild.function import labels
from fnbuild.function.types import Function

_PICTURE_KEYS = {"reid": ("image0", "image1")}
_NO_PICTURE = base64.b64encode(b"this is not a picture").decode()


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request with a mistake. Functions may tolerate it unless it `must_be_refused`."""

    name: str
    body: bytes
    must_be_refused: bool = True


def sample_request(
    kind: str, function: Function, image: EncodedImage, states: Sequence[Any] = ()
) -> CvatRequest:
    """Build CVAT's request with a click in the middle, or a box around it."""
    box = middle_box(image)
    if kind == "interactor":
        annotations = function.metadata.annotations
        points = _clicks(image, annotations.get("min_pos_points", ""))
        boxes = [box] if annotations.get("startswith_box") else []
        return build_request(kind, image, pos_points=points, boxes=boxes)
    if kind == "tracker":
        types = labels.tracked_shape_types(function)
        return build_request(kind, image, boxes=[box], shape_types=types, states=states)
    if kind == "reid":
        return build_request(kind, image, boxes=[box], image1=image, boxes1=[box])
    return build_request(kind, image)


def middle_box(image: EncodedImage) -> Box:
    """Return the box of the middle half; at least one pixel wide and high."""
    width, height = image.size
    left, top = width // 4, height // 4
    return left, top, max(3 * width // 4, left + 1), max(3 * height // 4, top + 1)


def _clicks(image: EncodedImage, least: str) -> list[tuple[float, float]]:
    count = max(1, int(least)) if least.isdigit() else 1
    width, height = image.size
    return [(width * (i + 1) // (count + 1), height // 2) for i in range(count)]


def more_requests(
    kind: str, function: Function, image: EncodedImage
) -> Iterator[tuple[str, CvatRequest]]:
    """Yield valid requests that differ from the sample in their prompts, with their names."""
    width, height = image.size
    box, middle = middle_box(image), _clicks(image, "")
    annotations = function.metadata.annotations
    if kind == "interactor":
        boxed = [box] if annotations.get("startswith_box") else []
        corner = [*middle, (width - 1, height - 1)]
        yield "a click in the corner", build_request(kind, image, pos_points=corner, boxes=boxed)
        if annotations.get("min_neg_points", "-1") != "-1":
            yield (
                "a negative click",
                build_request(kind, image, pos_points=middle, neg_points=[(1, 1)], boxes=boxed),
            )
        if annotations.get("startswith_box") or annotations.get("startswith_box_optional"):
            yield "a box without clicks", build_request(kind, image, boxes=[box])
        if not boxed:
            sample = sample_request(kind, function, image)
            yield "obj_bbox null", _with_fields(sample, obj_bbox=None)
    elif kind == "tracker":
        types = labels.tracked_shape_types(function)
        boxes = [box, (0, 0, width // 3, height // 3)]
        yield "two shapes", build_request(kind, image, boxes=boxes, shape_types=types)
        for name in (name for name in types[1:] if name in BOX_SHAPES):
            yield f"a shape: {name}", build_request(kind, image, boxes=[box], shape_types=[name])
    elif kind == "reid":
        boxes = [box, (0, 0, width // 3, height // 3), (width // 2, 0, width, height // 2)]
        yield (
            "three boxes and one",
            build_request(kind, image, boxes=boxes, image1=image, boxes1=boxes[:1]),
        )
        yield (
            "one box and three",
            build_request(kind, image, boxes=boxes[:1], image1=image, boxes1=boxes, max_distance=9),
        )


def threshold_request(image: EncodedImage, threshold: float) -> CvatRequest:
    return build_request("detector", image, threshold=threshold)


def bad_requests(sample: CvatRequest) -> Iterator[BadRequest]:
    """Yield requests with one mistake each, made from a valid request."""
    body = json.loads(sample.body)
    key = _PICTURE_KEYS.get(sample.kind, ("image",))[0]
    header = base64.b64encode(sample.image.data[:200]).decode()
    pictures: dict[str, Any] = {
        "a broken picture": header,
        "no picture but text": _NO_PICTURE,
        "an empty picture": "",
        "invalid base64": "@@@ not base64 @@@",
        "null in place of the picture": None,
        "a number in place of the picture": 12345,
    }
    for name, value in pictures.items():
        yield BadRequest(name, _encode({**body, key: value}))
    for missing in body:
        must_be_refused = missing in ("image", "image0", "image1", "boxes0", "boxes1")
        rest = {name: value for name, value in body.items() if name != missing}
        yield BadRequest(f"no key {missing}", _encode(rest), must_be_refused)
    if "shapes" in body:
        yield BadRequest("text in place of shapes", _encode({**body, "shapes": "none"}), False)
    if "pos_points" in body:
        yield BadRequest("text in place of points", _encode({**body, "pos_points": "none"}), False)
    yield BadRequest("a text as threshold", _encode({**body, "threshold": "high"}), False)
    yield BadRequest("an empty body", b"")
    yield BadRequest("a body that is not JSON", b"{")
    yield BadRequest("a list as body", b"[]")


def _with_fields(request: CvatRequest, **fields: Any) -> CvatRequest:
    return replace(request, body=_encode({**json.loads(request.body), **fields}))


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
