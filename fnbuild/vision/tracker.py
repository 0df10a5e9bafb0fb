"""The base of trackers: frames with shapes in, their shapes in the next frames out.

States travel with the requests, so that any worker can take the next frame.
"""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .arrays import Size, to_array
from .base import read_request
from .embedding import EmbeddingFunction
from .errors import RequestError
from .optional_libraries import numpy
from .packing import pack_text, unpack_texts
from .run_lengths import decode_mask, encode_mask

# The least number of coordinates of each type.
_LEAST = {"rectangle": 4, "ellipse": 4, "polygon": 6, "polyline": 4, "points": 2, "cuboid": 16}
_EXACT = ("rectangle", "ellipse", "cuboid")
_FARTHEST = 1e6
_ENTRY_KEYS = {"type", "points", "flat", "state"}


class TrackedShape:
    """A shape in a frame: its type as CVAT names it, and its points (N x 2) in pixels.

    Points may also be a flat list. Those of a mask are its pixels, H x W for the whole image.
    `size` is (width, height) of the frame in which a shape is drawn.
    """

    def __init__(self, type: str, points: Any, size: Optional[Size] = None) -> None:  # noqa: A002
        self.type = type
        self.size = size
        array = to_array(points)
        self.points = array != 0 if type == "mask" else array.astype("float64").reshape(-1, 2)

    @property
    def box(self) -> Any:
        """The smallest box around the shape: left, top, right, bottom."""
        points = self.points
        if self.type == "mask":
            rows, columns = self.points.nonzero()
            points = numpy.stack([columns, rows], 1)
            points = numpy.stack([points.min(0), points.max(0) + 1])
        return numpy.concatenate([points.min(0), points.max(0)]).astype("float64")


class TrackerRequest(NamedTuple):
    """A request with its frame or the embedding of it, and a shape or a state for each object."""

    subject: Any
    size: Size
    shapes: List[Any]
    states: List[Any]


class Tracker(EmbeddingFunction):
    """A function that follows shapes.

    `start(image, shape)` returns the state of a new `TrackedShape`. `follow(image, state)` returns
    a pair: the `TrackedShape` in this frame, or None if it is lost, and the new state. States are
    JSON values, arrays, bytes, and dicts and lists of them. A lost shape stays where it was, with
    the state that it had unless `follow` returns another one than None. With a method `embed` both
    get the embedding in place of the image. `types` are the types of shapes that can be followed.
    """

    required_methods = (("start",), ("follow",))
    types: Sequence[str] = ("rectangle",)

    def start(self, subject: Any, shape: TrackedShape) -> Any:
        """Return the state of a shape that was drawn in this frame."""
        raise NotImplementedError

    def follow(self, subject: Any, state: Any) -> Tuple[Optional[TrackedShape], Any]:
        """Return the shape of a state in this frame, and its new state."""
        raise NotImplementedError

    def read(self, event: Any) -> TrackerRequest:
        values = read_request(event).values
        subject, size = self.subject(event)
        shapes, states = values.get("shapes"), values.get("states") or []
        if not isinstance(shapes, list) or not isinstance(states, list):
            raise RequestError('"shapes" and "states" must be lists')
        entries = _read_states(states)
        # CVAT sends null for shapes that have a state, and older versions the last shape.
        drawn = [self._read_shape(shape, size) for shape in shapes[len(states) :]]
        return TrackerRequest(subject, size, drawn, entries)

    def answer(self, request: TrackerRequest) -> Any:
        entries = []
        for entry in request.states:
            shape, state = self.follow(request.subject, entry["state"])
            state = entry["state"] if shape is None and state is None else state
            points = entry["points"] if shape is None else _reply_points(shape, request.size)
            kind = entry["type"] if shape is None else shape.type
            entries.append(dict(entry, type=kind, points=points, state=state))
        for shape, is_flat in request.shapes:
            state = self.start(request.subject, shape)
            points = _reply_points(shape, request.size)
            entries.append({"type": shape.type, "points": points, "flat": is_flat, "state": state})
        return {
            "shapes": [_reply_shape(entry) for entry in entries],
            "states": [pack_text(entry) for entry in entries],
        }

    def _read_shape(self, shape: Any, size: Size) -> Tuple[TrackedShape, bool]:
        """Return a shape, and True for a flat list, which is a box of older versions of CVAT."""
        is_flat = not isinstance(shape, dict)
        kind = "rectangle" if is_flat else shape.get("type")
        numbers = shape if is_flat else shape.get("points")
        if kind not in self.types:
            raise RequestError("a shape must be one of %s" % ", ".join(self.types))
        try:
            flat = [float(value) for value in numbers]
        except (TypeError, ValueError):
            message = 'the "points" of a shape are numbers: x1, y1, x2, y2 …'
            raise RequestError(message) from None
        if kind == "mask":
            return TrackedShape(kind, _read_mask(flat, size), size), is_flat
        least = _LEAST[kind]
        if len(flat) % 2 or len(flat) < least or (kind in _EXACT and len(flat) != least):
            raise RequestError("a %s cannot have %d numbers" % (kind, len(flat)))
        if not all(math.isfinite(value) and abs(value) < _FARTHEST for value in flat):
            raise RequestError("the points of a shape must be in the image")
        if kind == "rectangle" and not (flat[2] > flat[0] and flat[3] > flat[1]):
            raise RequestError("the rectangle has no area: send left, top, right, bottom")
        return TrackedShape(kind, flat, size), is_flat


def _read_mask(numbers: Sequence[float], size: Size) -> Any:
    try:
        return decode_mask(numbers, size)
    except (ValueError, OverflowError) as problem:
        raise RequestError(str(problem)) from None


def _read_states(texts: Sequence[Any]) -> List[Dict[str, Any]]:
    try:
        entries = unpack_texts(texts)
    except ValueError as problem:
        raise RequestError("this state is not one of this tracker's: %s" % problem) from None
    if not all(isinstance(item, dict) and set(item) >= _ENTRY_KEYS for item in entries):
        raise RequestError("this state is not one of this tracker's")
    return entries


def _reply_points(shape: TrackedShape, size: Size) -> List[Any]:
    """Return the points for the reply, clipped to the image; a box keeps at least one pixel."""
    if shape.type == "mask":
        return encode_mask(shape.points) if shape.points.any() else []
    limits = numpy.array(size, "float64")
    points = shape.points.clip(0, limits)
    if shape.type == "rectangle":
        points[0] = numpy.minimum(points[0], limits - 1)
        points[1] = numpy.maximum(points[1], points[0] + 1)
    return points.round(2).ravel().tolist()  # type: ignore[no-any-return]


def _reply_shape(entry: Dict[str, Any]) -> Any:
    if not entry["points"]:
        return None
    return entry["points"] if entry["flat"] else {"type": entry["type"], "points": entry["points"]}
