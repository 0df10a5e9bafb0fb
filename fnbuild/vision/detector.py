"""Bases of functions whose reply is a list of labelled shapes: CVAT's kind `detector`.

Each request has one image. In V1 and V2 the reply is the same list, with numbers as confidences.
"""

from typing import Any, List, NamedTuple, Tuple

from .arrays import Size, resize, to_array
from .base import Function, Request, attempt, read_request
from .detections import Detections, to_shapes
from .optional_libraries import numpy
from .shapes import Shape, tag

_BACKGROUND_NAMES = ("background", "_background_", "__background__")


class ImageRequest(NamedTuple):
    """A request with its image and threshold."""

    request: Request
    image: Any
    threshold: float

    @property
    def protocol(self) -> str:
        """The inference protocol of the request: "v1", "v2" or ""."""
        return self.request.protocol

    @property
    def size(self) -> Size:
        """Width and height of the image."""
        return self.image.shape[1], self.image.shape[0]


class ImageFunction(Function):
    """A function whose `predict` gets one image, or `predict_batch` several."""

    required_methods = (("predict", "predict_batch"),)
    predict_batch: Any = None

    def read(self, event: Any) -> ImageRequest:
        request = read_request(event)
        image = self.decode(event)
        return ImageRequest(request, image, request.number("threshold", self.threshold))

    def arguments(self, request: ImageRequest) -> Tuple[Any, ...]:
        """Return the arguments of `predict` for a request."""
        return (request.image,)

    def shapes(self, result: Any, request: ImageRequest) -> List[Shape]:
        """Return the shapes of a result of `predict`."""
        raise NotImplementedError

    def content(self, result: Any, request: ImageRequest) -> Any:
        """Return the content of the reply for a result of `predict`."""
        shapes = self.shapes(result, request)
        if request.protocol:
            for shape in shapes:
                if shape.get("confidence") is not None:
                    shape["confidence"] = float(shape["confidence"])
        return shapes

    def answer_all(self, requests: List[ImageRequest]) -> List[Any]:
        if self.predict_batch is None:
            results = [attempt(self.predict, *self.arguments(item)) for item in requests]
        else:
            columns = zip(*map(self.arguments, requests))  # noqa: B905 - no strict in 3.6
            results = attempt(self._predict_batch, *map(list, columns))
            if isinstance(results, Exception):
                return [results] * len(requests)
        return [
            result if isinstance(result, Exception) else attempt(self.content, result, request)
            for result, request in zip(results, requests)  # noqa: B905
        ]

    def _predict_batch(self, images: List[Any], *more: List[Any]) -> List[Any]:
        results = list(self.predict_batch(images, *more))
        if len(results) != len(images):
            message = "predict_batch returned %d results for %d images"
            raise ValueError(message % (len(results), len(images)))
        return results

    def predict(self, *arguments: Any) -> Any:
        """Return the result for one image."""
        raise NotImplementedError


class Detector(ImageFunction):
    """A function that locates objects.

    `predict(image, threshold)` returns `Detections`, or shapes such as `vision.rectangle(...)`.
    `predict_batch(images, thresholds)` may take its place, and returns one result for each image.
    """

    def arguments(self, request: ImageRequest) -> Tuple[Any, ...]:
        return request.image, request.threshold

    def shapes(self, result: Any, request: ImageRequest) -> List[Shape]:
        return to_shapes(result, self._full_label_spec(), request.threshold, request.size)

    def _full_label_spec(self) -> Any:
        """Return the label spec, or names that `load` has put into `labels`."""
        names = [label["name"] for label in self.label_spec]
        if list(self.labels) == names:
            return self.label_spec
        labels = {label["name"]: label for label in self.label_spec}
        return [labels.get(name, {"name": name}) for name in self.labels]


class Keypoints(Detector):
    """A function that locates skeletons: `predict` returns `Detections(keypoints=...)`.

    Keypoints are in the order of the label's sublabels.
    """


class Segmenter(ImageFunction):
    """A function that returns the class of each pixel, as one mask for each class.

    `predict(image)` returns a map of classes (H x W integers), or a pair of it and a map of scores,
    which are compared with the threshold as the mean over a class. Maps of another size are scaled
    to the image. `background` is the class without a label, or None: the other classes are
    positions in the label spec, which has no entry for the background unless its name says so.
    """

    background: Any = 0

    def shapes(self, result: Any, request: ImageRequest) -> List[Shape]:
        classes, scores = result if isinstance(result, tuple) else (result, None)
        classes = to_array(classes)
        if classes.ndim != 2:
            message = "the classes are a map of H x W numbers, not %s"
            raise ValueError(message % " x ".join(map(str, classes.shape)))
        classes = resize(classes, request.size, "nearest")
        if scores is not None:
            scores = resize(to_array(scores).astype("float32"), request.size)
        masks, labels, means = [], [], []
        for number in numpy.unique(classes).tolist():
            if number == self.background:
                continue
            masks.append(classes == number)
            labels.append(self._label(number))
            means.append(1.0 if scores is None else float(scores[masks[-1]].mean()))
        detections = Detections(
            labels=labels, scores=None if scores is None else means, masks=masks
        )
        spec = [{"name": name} for name in self.labels]
        return detections.to_shapes(spec, request.threshold, request.size)

    def _label(self, number: int) -> int:
        background = self.background
        if background is None or number < background or self._lists_background():
            return number
        return number - 1

    def _lists_background(self) -> bool:
        names = self.labels[self.background : self.background + 1]
        return bool(names) and names[0].lower() in _BACKGROUND_NAMES


class Classifier(ImageFunction):
    """A function that classifies the whole image.

    `predict(image)` returns a probability for each label. The reply has a tag for each label at or
    above the threshold, at most `most` of them unless it is None. In V1 and V2 it is
    `{"labels": [...], "scores": [...]}` of the `most` probable labels, whatever the threshold.
    """

    most: Any = None

    def content(self, result: Any, request: ImageRequest) -> Any:
        ranking = self.rank(result)
        if request.protocol:
            return {"labels": [name for name, _ in ranking], "scores": [x for _, x in ranking]}
        return [tag(name, score) for name, score in ranking if score >= request.threshold]

    def rank(self, scores: Any) -> List[Tuple[str, float]]:
        """Return the `most` probable labels with their scores, the surest first."""
        # Numbers of quantized networks have no sign.
        values = to_array(scores).astype("float64").ravel()
        if numpy.isnan(values).any():
            raise ValueError("the probabilities have values that are not numbers (NaN)")
        if len(values) != len(self.labels):
            message = "the model has %d classes, and the label spec of function.yaml %d labels"
            raise ValueError(message % (len(values), len(self.labels)))
        order = numpy.argsort(-values, kind="stable")[: self.most]
        return [(self.labels[i], float(values[i])) for i in order.tolist()]
