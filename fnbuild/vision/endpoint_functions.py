"""Endpoint handlers of Hugging Face as functions: folders whose handler.py has `EndpointHandler`.

    class Adapter(EndpointFunction):
        endpoint_folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "endpoint")

    init_context, handler = vision.export(Adapter)

Requests of CVAT, and images as bodies, become `{"inputs": image, "parameters": {...}}`; JSON with
`inputs` is passed on as it is. Results of image pipelines become CVAT's shapes in replies to the
former; all others are returned as they are.
"""

import base64
import importlib
import io
import sys
from typing import Any, Dict, List, Optional, Tuple

from .base import Function, Request, read_request
from .decoding import decode_image, open_image
from .request_body import image_file
from .shapes import Shape, mask, rectangle, tag

_BOX_KEYS = ("xmin", "ymin", "xmax", "ymax")


class EndpointFunction(Function):
    """The `EndpointHandler` of handler.py in `endpoint_folder`.

    `inputs` is the form of images that it takes: "image" for a Pillow image, as from the inference
    toolkit of Hugging Face, "base64" or "bytes" for the file.
    """

    endpoint_folder = ""
    inputs = "image"

    def load(self, context: Any) -> None:  # noqa: ARG002
        sys.path.insert(0, str(self.endpoint_folder))
        module = importlib.import_module("handler")
        # By position, as from the inference toolkit: handlers name the parameter as they like.
        self.endpoint = module.EndpointHandler(str(self.endpoint_folder))

    def read(self, event: Any) -> Request:
        request = read_request(event)
        if "threshold" in request.values:
            request.number("threshold", 0)
        return request

    def answer(self, request: Request) -> Any:
        if "inputs" in request.values:
            return plain_value(self.endpoint(dict(request.values)))
        threshold = request.values.get("threshold")
        parameters = {} if threshold is None else {"threshold": threshold}
        image = self._image(request.event)
        size = getattr(image, "size", None)
        result = self.endpoint({"inputs": image, "parameters": parameters})
        shapes = to_shapes(result, threshold or 0, size)
        return plain_value(result) if shapes is None else shapes

    def _image(self, event: Any) -> Any:
        if self.inputs == "image":
            return open_image(event)
        data = image_file(event)
        return data if self.inputs == "bytes" else base64.b64encode(data).decode("ascii")


def to_shapes(
    result: Any, threshold: float, size: Optional[Tuple[int, int]] = None
) -> Optional[List[Shape]]:
    """Return the shapes of a pipeline's result; None if it is not that of an image pipeline.

    Boxes are clipped to an image of `size`.
    """
    if isinstance(result, list) and len(result) == 1 and isinstance(result[0], list):
        # A batch of one image.
        result = result[0]
    if not isinstance(result, list) or not all(_is_labelled(item) for item in result):
        return None
    shapes = []
    for item in result:
        if item.get("score") is None or float(item["score"]) >= threshold:
            shape = _to_shape(item, size)
            if shape is not None:
                shapes.append(shape)
    return shapes


def _is_labelled(item: Any) -> bool:
    return isinstance(item, dict) and "label" in item and bool({"score", "box", "mask"} & set(item))


def _to_shape(item: Dict[str, Any], size: Optional[Tuple[int, int]]) -> Optional[Shape]:
    label, score = str(item["label"]), item.get("score")
    if item.get("mask") is not None:
        pixels = _mask_array(item["mask"])
        return mask(label, pixels, score) if pixels.any() else None
    if item.get("box") is not None:
        box = item["box"]
        corners = [float(x) for x in ([box[key] for key in _BOX_KEYS] if "xmin" in box else box)]
        if size is not None:
            corners = [min(max(x, 0.0), size[i % 2]) for i, x in enumerate(corners)]
        is_empty = corners[0] >= corners[2] or corners[1] >= corners[3]
        return None if is_empty else rectangle(label, corners, score)
    return tag(label, score)


def _mask_array(value: Any) -> Any:
    """Return a mask as an array: of a Pillow image, of an image file in base64, or of an array."""
    import numpy

    if isinstance(value, str):
        value = decode_image(base64.b64decode(value), mode="L")
    pixels = numpy.asarray(value)
    # Pipelines have 255 for pixels of the mask; soft edges count from the middle on.
    return pixels > (127 if pixels.dtype == numpy.uint8 and pixels.max(initial=0) > 1 else 0.5)


def plain_value(value: Any) -> Any:
    """Return a value that JSON can represent; images are PNG files in base64."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if hasattr(value, "tolist"):
        return plain_value(value.tolist())
    if hasattr(value, "save"):
        out = io.BytesIO()
        value.save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode("ascii")
    raise TypeError("the handler returned a %s, which JSON cannot represent" % type(value).__name__)
