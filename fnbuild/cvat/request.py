"""Build the requests that CVAT sends: an image and the user's clicks as JSON, for each kind.

CVAT sends the stored frame in standard base64 without a prefix. Before it stores images, it turns
them upright by their EXIF tag.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from fnbuild.cvat.canvas import unlimited_image_size
from fnbuild.cvat.shapes import Box, Point, Size
from fnbuild.errors import InputError, NotFoundError, UsageError
from fnbuild.function.labels import FUNCTION_KINDS

CONTENT_TYPE = "application/json"

# Formats that CVAT stores unchanged; it rejects or converts the others.
CVAT_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO")
ORIENTATION = 0x0112

# Formats of images after turning; other formats become PNG, which is lossless.
_WRITTEN_AS = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WEBP", "TIFF": "TIFF"}


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded, upright image, with Pillow's name of its format and its size in pixels."""

    data: bytes
    format: str
    size: Size
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CvatRequest:
    """A request body, and the values that are needed to read the reply.

    `counts` are the numbers of boxes (re-identification) or shapes (tracking) in the request;
    `shape_types` are those that a tracker declares, () for the older interface, None if unknown.
    `continues_track` is True if a tracker's request has its own states. `boxes`, `pos_points` and
    `neg_points` are the user's prompts.
    """

    kind: str
    body: bytes
    image: EncodedImage
    boxes: tuple[Box, ...] = ()
    pos_points: tuple[Point, ...] = ()
    neg_points: tuple[Point, ...] = ()
    counts: tuple[int, ...] = ()
    continues_track: bool = False
    shape_types: tuple[str, ...] | None = None
    content_type: str = CONTENT_TYPE

    @property
    def notes(self) -> tuple[str, ...]:
        return self.image.notes


def read_image(path: Path) -> EncodedImage:
    """Read an image file as CVAT would send it. Raises `NotFoundError` or `InputError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"no such image file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read the image {path}: {error.strerror}") from None
    return upright_image(data, str(path))


def upright_image(data: bytes, name: str = "the image") -> EncodedImage:
    """Check that the bytes are an image, and turn it upright by its EXIF tag."""
    if not data:
        raise InputError(f"{name} is empty")
    try:
        with unlimited_image_size(), Image.open(io.BytesIO(data)) as image:
            # Read before loading, because Pillow turns TIFF files itself and drops the tag.
            turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
            # Decode the pixels, because opening a truncated file raises nothing.
            image.load()
            return _upright(image, data, name, turned=turned)
    except UnidentifiedImageError:
        raise InputError(
            f"{name} is not an image that can be read",
            hint="send a JPEG, PNG, WebP, BMP, GIF or TIFF file",
        ) from None
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise InputError(f"{name} cannot be decoded: {error or 'out of memory'}") from None


def _upright(image: Image.Image, data: bytes, name: str, *, turned: bool) -> EncodedImage:
    encoding = image.format or "PNG"
    notes = []
    if encoding not in CVAT_FORMATS:
        notes.append(f"{name} is a {encoding} file, which CVAT does not send unchanged")
    # A phone's MPO file has a preview beside the photograph, not a sequence of frames.
    if getattr(image, "n_frames", 1) > 1 and encoding != "MPO":
        notes.append(f"{name} has several frames; functions see the first")
    if not turned:
        return EncodedImage(data, encoding, image.size, tuple(notes))
    upright_image = ImageOps.exif_transpose(image)
    target = _WRITTEN_AS.get(encoding, "PNG")
    out = io.BytesIO()
    best: dict[str, Any] = {"quality": 100, "subsampling": 0} if target == "JPEG" else {}
    upright_image.save(out, target, **best)
    notes.append(f"{name} was turned upright by its EXIF tag, as CVAT does")
    return EncodedImage(out.getvalue(), target, upright_image.size, tuple(notes))


def build_request(  # noqa: PLR0913 - independent options
    kind: str,
    image: EncodedImage | bytes,
    *,
    threshold: float | None = None,
    pos_points: Sequence[Point] = (),
    neg_points: Sequence[Point] = (),
    boxes: Sequence[Box] = (),
    image1: EncodedImage | bytes | None = None,
    boxes1: Sequence[Box] = (),
    max_distance: int | None = None,
    shape_types: Sequence[str] = (),
    states: Sequence[Any] = (),
) -> CvatRequest:
    """Build CVAT's request to a function of this kind.

    `boxes` are an interactor's box (at most one), the boxes of a tracker, or the boxes of the first
    image in re-identification, where `image1` and `boxes1` are the second. `shape_types` are the
    types that a tracker declares (`labels.tracked_shape_types`); `states` are those of its last
    reply. Raises `UsageError` if an argument is missing or invalid for the kind.
    """
    encoded = image if isinstance(image, EncodedImage) else upright_image(image)
    _check_arguments(kind, pos_points=pos_points or neg_points, image1=image1, boxes=boxes)
    body: dict[str, Any] = {} if kind == "reid" else {"image": _base64(encoded)}
    counts: tuple[int, ...] = ()
    if kind == "reid":
        counts = len(boxes), len(boxes1)
        body = _reid_body(encoded, _second_image(image1), boxes, boxes1)
        if max_distance:
            body["max_distance"] = max_distance
    elif kind == "interactor":
        body.update(_interactor_fields(pos_points, neg_points, boxes))
    elif kind == "tracker":
        shapes = (
            [None] * len(states) if states else [_tracked_shape(box, shape_types) for box in boxes]
        )
        counts = (len(shapes),)
        body.update(shapes=shapes, states=list(states))
    if threshold:
        body["threshold"] = threshold
    text = json.dumps(body, separators=(",", ":")).encode()
    clicks = tuple(pos_points), tuple(neg_points)
    return CvatRequest(
        kind, text, encoded, tuple(boxes), *clicks, counts, bool(states), tuple(shape_types)
    )


def parse_points(text: str) -> list[Point]:
    """Parse points such as `x,y x,y`, separated by spaces or semicolons. Raises `UsageError`."""
    points = []
    for part in text.replace(";", " ").split():
        x, y = _parse_numbers(part, 2, "a point is written x,y")
        points.append((x, y))
    return points


def parse_box(text: str) -> Box:
    """Parse a box such as `left,top,right,bottom`. Raises `UsageError`."""
    left, top, right, bottom = _parse_numbers(text, 4, "a box is written left,top,right,bottom")
    if right <= left or bottom <= top:
        raise UsageError(
            f'the box "{text}" has no area: right must be above left, bottom above top'
        )
    return left, top, right, bottom


def _parse_numbers(text: str, count: int, rule: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise UsageError(f'"{text}" cannot be read: {rule}, in pixels')
    return [int(value) if value.is_integer() else value for value in values]


def _check_arguments(
    kind: str, *, pos_points: object, image1: object, boxes: Sequence[Box]
) -> None:
    if kind not in FUNCTION_KINDS:
        raise UsageError(
            f'cannot build a request for a function of kind "{kind}"',
            hint=f"CVAT's kinds are {', '.join(FUNCTION_KINDS)}; the annotation `type` sets it",
        )
    if pos_points and kind != "interactor":
        raise UsageError(f"points are for interactors; this function is a {kind}")
    if image1 is not None and kind != "reid":
        raise UsageError(f"a second image is for re-identification; this function is a {kind}")
    if boxes and kind == "detector":
        raise UsageError("boxes are for interactors, trackers and re-identification, not detectors")
    if len(boxes) > 1 and kind == "interactor":
        raise UsageError("an interactor takes one box")


def _second_image(image1: EncodedImage | bytes | None) -> EncodedImage:
    if image1 is None:
        raise UsageError("re-identification needs a second image", hint="`--image1 FILE` sets it")
    return image1 if isinstance(image1, EncodedImage) else upright_image(image1, "the second image")


def _base64(image: EncodedImage) -> str:
    return base64.b64encode(image.data).decode("ascii")


def _reid_body(
    first: EncodedImage, second: EncodedImage, boxes: Sequence[Box], boxes1: Sequence[Box]
) -> dict[str, Any]:
    return {
        "image0": _base64(first),
        "image1": _base64(second),
        "boxes0": [_rectangle(i, 0, box) for i, box in enumerate(boxes)],
        "boxes1": [_rectangle(i, 1, box) for i, box in enumerate(boxes1)],
    }


def _interactor_fields(
    pos: Sequence[Point], neg: Sequence[Point], boxes: Sequence[Box]
) -> dict[str, Any]:
    corners = [[list(box[:2]), list(box[2:])] for box in boxes]
    return {
        "pos_points": [list(point) for point in pos],
        "neg_points": [list(point) for point in neg],
        "obj_bbox": corners[0] if corners else [],
    }


def _rectangle(index: int, frame: int, box: Box) -> dict[str, Any]:
    return {
        "id": index,
        "type": "rectangle",
        "frame": frame,
        "label_id": 1,
        "group": 0,
        "source": "manual",
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "rotation": 0.0,
        "points": list(box),
        "attributes": [],
        "path_id": index,
    }


BOX_SHAPES = ("rectangle", "polygon", "mask", "ellipse", "polyline", "points")
"""The types of shapes that a box can represent, by preference."""


def _tracked_shape(box: Box, shape_types: Sequence[str]) -> Any:
    if not shape_types:
        return list(box)
    kind = next((name for name in BOX_SHAPES if name in shape_types), None)
    if kind is None:
        raise UsageError(
            f"the function tracks {', '.join(shape_types)};"
            f" a box can represent only {', '.join(BOX_SHAPES)}"
        )
    return {"type": kind, "points": _points_of_box(kind, box)}


def _points_of_box(kind: str, box: Box) -> list[float]:
    """Return the points of a shape that fills a box; a mask has its run lengths."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    match kind:
        case "rectangle":
            return list(box)
        case "mask":
            left, top, right, bottom = (int(value) for value in box)
            return [0, (right - left) * (bottom - top), left, top, right - 1, bottom - 1]
        case "ellipse":
            return [x, y, right, top]
        case "points":
            return [x, y]
    return [left, top, right, top, right, bottom, left, bottom]
