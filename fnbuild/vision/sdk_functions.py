"""cvat-sdk's auto-annotation functions as functions of CVAT.

    class Adapter(SdkFunction):
        file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")

    init_context, handler = vision.export(Adapter)

The file has `spec` and the methods of its kind (`detect`, or `init_tracking_state` and `track`), or
`create`, which returns such an object.
"""

import hashlib
import json
import os
import uuid
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .base import Function, Request, read_request
from .decoding import open_image
from .errors import RequestError
from .request_body import image_file
from .sdk_loading import load_sdk_function, sdk_kind
from .shapes import Shape

PARAMETERS = "FUNCTION_PARAMETERS"
"""The environment variable with the parameters of `create`, a JSON object."""

_KEPT_IMAGES = 4
_KEPT_STATES = 1000
_OPTIONAL_KEYS = (("rotation", "rotation"), ("group", "group_id"), ("outside", "outside"))


class FunctionResultError(Exception):
    """The function has returned a result that breaks a rule of cvat-sdk."""


class _Context:
    """The context of a call, with the attributes of cvat-sdk's contexts and prompts."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


_TrackingState = NamedTuple(
    "_TrackingState", [("state", Any), ("shape_type", str), ("size", Tuple[int, int])]
)


class SdkFunction(Function):
    """A function of cvat-sdk in `file`, called with `parameters`.

    With `conv_mask_to_poly`, or if a request has it, a detector returns polygons, not masks.
    """

    file = ""
    parameters: Any = None
    conv_mask_to_poly = False

    def load(self, context: Any) -> None:  # noqa: ARG002
        parameters = dict(self.parameters or {}, **json.loads(os.environ.get(PARAMETERS) or "{}"))
        self.function = load_sdk_function(str(self.file), parameters)
        self.kind = sdk_kind(self.function.spec)
        self._images = OrderedDict()  # type: OrderedDict[str, Tuple[Any, Tuple[int, int]]]
        self._states = OrderedDict()  # type: OrderedDict[str, _TrackingState]
        if self.kind == "detector":
            self._sdk_labels = {label.id: label for label in self.function.spec.labels}

    def read(self, event: Any) -> Request:
        request = read_request(event)
        if "threshold" in request.values:
            request.number("threshold", 0)
        return request

    def answer(self, request: Request) -> Any:
        if self.kind == "detector":
            return self._detect(request)
        if self.kind == "interactor":
            return self._interact(request)
        return self._track(request)

    def _detect(self, request: Request) -> List[Shape]:
        polygons = request.values.get("conv_mask_to_poly", self.conv_mask_to_poly) is True
        context = _Context(
            frame_name="",
            conf_threshold=request.values.get("threshold"),
            conv_mask_to_poly=polygons,
        )
        results = self.function.detect(context, open_image(request.event))
        return [self._shape(result.to_dict(), polygons) for result in results]

    def _shape(self, values: Dict[str, Any], polygons: bool) -> Shape:
        """Return the shape of CVAT for a shape or tag of cvat-sdk."""
        label = self._sdk_labels.get(values["label_id"])
        if label is None:
            raise FunctionResultError("the label id %s is not in the spec" % values["label_id"])
        kind = values.get("type", "tag")
        expected = getattr(label, "type", "any")
        if polygons and kind == "mask":
            raise FunctionResultError("the function returned a mask despite conv_mask_to_poly")
        if polygons and expected == "mask":
            expected = "polygon"
        if expected not in ("any", kind):
            message = "the function returned a %s for the label %s, whose type is %s"
            raise FunctionResultError(message % (kind, label.name, expected))
        shape = dict(_element(values, label), type=kind)
        if kind == "mask":
            shape["mask"] = mask_pixels(shape["points"])
            shape["points"] = []
        elif kind == "skeleton":
            sublabels = {sublabel.id: sublabel for sublabel in label.sublabels}
            shape["elements"] = [
                _element(element, _sublabel(sublabels, element["label_id"], label))
                for element in values.get("elements", ())
            ]
        return shape

    def _interact(self, request: Request) -> Dict[str, Any]:
        values = request.values
        box = _points(values, "obj_bbox")
        if len(box) not in (0, 2):
            raise RequestError('"obj_bbox" must be two points, or empty')
        prompts = _Context(
            pos_points=_points(values, "pos_points"),
            neg_points=_points(values, "neg_points"),
            bounding_box=tuple(box) or None,
        )
        image, _ = self._preprocessed(request.event)
        results = self.function.detect(_Context(), image, prompts)
        return {
            "shapes": [
                {
                    "type": str(getattr(result.type, "value", result.type)),
                    "points": _numbers(result.points),
                    "attributes": [attribute.to_dict() for attribute in result.attributes],
                    "group": 0,
                    "source": "semi-auto",
                    "occluded": False,
                    "rotation": 0,
                }
                for result in results
            ]
        }

    def _track(self, request: Request) -> Dict[str, Any]:
        shapes, states = (request.values.get(key) or [] for key in ("shapes", "states"))
        if not isinstance(shapes, list) or not isinstance(states, list):
            raise RequestError('"shapes" and "states" must be lists')
        image, size = self._preprocessed(request.event)
        if states:
            followed = [self._follow(image, size, state) for state in states]
            return {"shapes": followed, "states": states}
        return {"shapes": shapes, "states": [self._start(image, size, item) for item in shapes]}

    def _start(self, image: Any, size: Tuple[int, int], shape: Any) -> str:
        """Return the key of a new tracking state, which stays in this process."""
        # Before supported_shape_types, CVAT sent the points of a rectangle only.
        values = {"type": "rectangle", "points": shape} if isinstance(shape, list) else shape
        supported = self.function.spec.supported_shape_types
        if not isinstance(values, dict) or values.get("type") not in supported:
            raise RequestError("a shape must be of type %s" % " or ".join(sorted(supported)))
        from cvat_sdk.auto_annotation import TrackableShape

        tracked = TrackableShape(type=values["type"], points=_numbers(values.get("points") or ()))
        context = _Context(original_shape_type=tracked.type)
        state = self.function.init_tracking_state(context, image, tracked)
        key = uuid.uuid4().hex
        self._states[key] = _TrackingState(state, tracked.type, size)
        while len(self._states) > _KEPT_STATES:
            self._states.popitem(last=False)
        return key

    def _follow(self, image: Any, size: Tuple[int, int], key: Any) -> Optional[Dict[str, Any]]:
        state = self._states.get(key) if isinstance(key, str) else None
        if state is None:
            raise RequestError("the tracking state has expired: track the object anew")
        if state.size != size:
            raise RequestError("the frame has another size than the one the track started in")
        self._states.move_to_end(key)
        context = _Context(original_shape_type=state.shape_type)
        shape = self.function.track(context, image, state.state)
        if shape is None:
            return None
        if shape.type != state.shape_type:
            message = "the function returned a %s for a track of a %s"
            raise FunctionResultError(message % (shape.type, state.shape_type))
        return {"type": shape.type, "points": _numbers(shape.points)}

    def _preprocessed(self, event: Any) -> Tuple[Any, Tuple[int, int]]:
        """Return the function's form of an image, which the next requests use again; its size."""
        key = hashlib.sha256(image_file(event)).hexdigest()
        if key not in self._images:
            image = open_image(event)
            size = image.size
            if hasattr(self.function, "preprocess_image"):
                image = self.function.preprocess_image(_Context(), image)
            self._images[key] = image, size
        self._images.move_to_end(key)
        while len(self._images) > _KEPT_IMAGES:
            self._images.popitem(last=False)
        return self._images[key]


def mask_pixels(points: Sequence[float]) -> List[int]:
    """Return CVAT's flat mask for run lengths, zeros first; both end with the inclusive box."""
    *runs, left, top, right, bottom = (int(value) for value in points)
    pixels = []  # type: List[int]
    for index, run in enumerate(runs):
        pixels += [index % 2] * run
    if len(pixels) != (right - left + 1) * (bottom - top + 1):
        raise FunctionResultError("the run lengths of a mask do not fill its box")
    return [*pixels, left, top, right, bottom]


def _element(values: Dict[str, Any], label: Any) -> Shape:
    """Return label, type, points and attributes of a shape, or of an element of a skeleton."""
    names = {attribute.id: attribute.name for attribute in getattr(label, "attributes", ())}
    attributes = []
    for attribute in values.get("attributes", ()):
        if attribute["spec_id"] not in names:
            message = "the attribute id %s of the label %s is not in the spec"
            raise FunctionResultError(message % (attribute["spec_id"], label.name))
        attributes.append({"name": names[attribute["spec_id"]], "value": attribute["value"]})
    points = _numbers(values.get("points") or ())
    shape = {"label": label.name, "type": values.get("type"), "points": points}  # type: Shape
    shape["attributes"] = attributes
    for key, name in _OPTIONAL_KEYS:
        if values.get(key):
            shape[name] = values[key]
    return shape


def _sublabel(sublabels: Dict[int, Any], number: int, label: Any) -> Any:
    if number not in sublabels:
        message = "the sublabel id %s of the label %s is not in the spec"
        raise FunctionResultError(message % (number, label.name))
    return sublabels[number]


def _points(values: Dict[str, Any], key: str) -> List[Tuple[float, float]]:
    try:
        return [(float(x), float(y)) for x, y in values.get(key) or ()]
    except (TypeError, ValueError):
        raise RequestError('"%s" must be a list of points [x, y]' % key) from None


def _numbers(points: Any) -> List[float]:
    return [value.item() if hasattr(value, "item") else value for value in points]
