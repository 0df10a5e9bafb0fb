"""The base of interactors: an image with clicks, a box or texts in, masks out."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .arrays import Size, to_array
from .base import Request, read_request
from .detections import Detections
from .embedding import EmbeddingFunction
from .errors import RequestError
from .optional_libraries import numpy
from .run_lengths import encode_mask


class Prompt(NamedTuple):
    """The request of a user, in pixels of the image.

    `positive` and `negative` are points on the object and beside it (N x 2), `box` is left, top,
    right, bottom or None, and `size` is (width, height) of the image. `boxes` (N x 4) are all boxes
    of a request to a class with `several_boxes`.
    """

    positive: Any
    negative: Any
    box: Any
    threshold: float
    texts: List[str]
    size: Size
    boxes: Any = ()


class InteractorRequest(NamedTuple):
    """A request with its prompt, and the image or its embedding."""

    request: Request
    subject: Any
    prompt: Prompt


class Interactor(EmbeddingFunction):
    """A function that segments what the user points at.

    `predict(image, prompt)` returns a mask (H x W), a pair of it and its score, a list of these, or
    `Detections(masks=...)`. With a method `embed` it gets the embedding in place of the image.
    `reply_format` is "shapes", or "mask" for CVAT before 2.60, which gets the best mask only.
    `needs_prompt` refuses requests without a point, a box and texts. `several_boxes` allows more
    than the one box that CVAT sends, each around another object.
    """

    required_methods = (("predict",),)
    reply_format = "shapes"
    needs_prompt = True
    several_boxes = False
    threshold = 0.0

    def predict(self, subject: Any, prompt: Prompt) -> Any:
        """Return the masks of what the prompt describes."""
        raise NotImplementedError

    def read(self, event: Any) -> InteractorRequest:
        request = read_request(event)
        subject, size = self.subject(event)
        positive = _read_points(request, "pos_points")
        negative = _read_points(request, "neg_points")
        boxes, texts = self._read_boxes(request), _read_texts(request)
        box = boxes[0] if len(boxes) else None
        if self.needs_prompt and not (len(positive) or box is not None or texts):
            raise RequestError("send a point on the object or a box around it")
        threshold = request.number("threshold", self.threshold)
        prompt = Prompt(positive, negative, box, threshold, texts, size, boxes)
        return InteractorRequest(request, subject, prompt)

    def _read_boxes(self, request: Request) -> Any:
        """Return the boxes (N x 4). CVAT sends the two corners of one."""
        value = request.values.get("obj_bbox")
        if isinstance(value, list) and len(value) == 4 and not isinstance(value[0], list):
            request.values["obj_bbox"] = [value[:2], value[2:]]
        corners = _read_points(request, "obj_bbox")
        if len(corners) % 2 or (len(corners) > 2 and not self.several_boxes):
            raise RequestError('"obj_bbox" must be [] or [[left, top], [right, bottom]]')
        boxes = corners.reshape(-1, 4)
        if not (boxes[:, 2:] > boxes[:, :2]).all():
            raise RequestError("the box has no area: send [[left, top], [right, bottom]]")
        return boxes

    def answer(self, request: InteractorRequest) -> Any:
        result = self.predict(request.subject, request.prompt)
        return self.content(result, request)

    def content(self, result: Any, request: InteractorRequest) -> Any:
        """Return the content of the reply for a result of `predict`."""
        width, height = request.prompt.size
        masks = []
        for mask, score in _scored_masks(result):
            pixels = to_array(mask)
            if pixels.shape != (height, width):
                message = "a mask covers the image: it has %d rows and %d columns, not %s"
                raise ValueError(message % (height, width, " x ".join(map(str, pixels.shape))))
            if score is None or score >= request.prompt.threshold:
                masks.append((pixels != 0, score))
        masks.sort(key=lambda item: -1 if item[1] is None else -item[1])
        if self.reply_format == "mask":
            best = masks[0][0] if masks else numpy.zeros((height, width), bool)
            return {"mask": best.astype("uint8").tolist()}
        return {"shapes": [_mask_shape(pixels, score) for pixels, score in masks if pixels.any()]}


def _scored_masks(result: Any) -> List[Tuple[Any, Optional[float]]]:
    if isinstance(result, Detections):
        if result.masks is None:
            raise TypeError("an interactor returns masks: Detections(masks=...)")
        scores = [None] * len(result) if result.scores is None else result.scores.tolist()
        return list(zip(result.masks, scores))  # noqa: B905 - no strict in 3.6
    if result is None:
        return []
    items = result if isinstance(result, list) else [result]
    pairs = [item if isinstance(item, tuple) else (item, None) for item in items]
    return [(mask, None if score is None else float(score)) for mask, score in pairs]


def _mask_shape(pixels: Any, score: Optional[float]) -> Dict[str, Any]:
    # The attribute 0 is the confidence, by which CVAT filters masks.
    attributes = [] if score is None else [{"spec_id": 0, "value": "%.4f" % score}]
    return {
        "type": "mask",
        "points": encode_mask(pixels),
        "attributes": attributes,
        "group": 0,
        "source": "semi-auto",
        "occluded": False,
        "rotation": 0,
    }


def _read_points(request: Request, key: str) -> Any:
    try:
        points = [(float(x), float(y)) for x, y in request.values.get(key) or ()]
    except (TypeError, ValueError):
        raise RequestError('"%s" must be a list of [x, y]' % key) from None
    if not all(math.isfinite(value) for point in points for value in point):
        raise RequestError('"%s" must have finite numbers' % key)
    return numpy.array(points, "float64").reshape(-1, 2)


def _read_texts(request: Request) -> List[str]:
    texts = request.values.get("text_prompts") or []
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestError('"text_prompts" must be a list of texts')
    return texts
