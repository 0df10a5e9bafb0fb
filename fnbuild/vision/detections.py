"""The results of a detector as arrays, and the shapes that CVAT reads."""

from typing import Any, Callable, List, Optional, Sequence

from . import shapes
from .arrays import Size, to_array
from .labels import Label
from .optional_libraries import cv2, numpy
from .shapes import Shape

# Smaller shapes are empty after rounding.
_SMALLEST_SIDE = 0.01
_VISIBLE = 0.5


class Detections:
    """Objects in an image, each a row of the arrays; coordinates are pixels of the image.

    `boxes` (N x 4) are left, top, right, bottom, with `rotations` in degrees if there are any.
    `labels` are positions in the label spec, or names; none are needed if the spec has one label.
    `masks` (N x H x W) cover the image. `keypoints` are N x K x 2, or N x K x 3 with a visibility:
    points below 0.5 are hidden. `polygons` are lists of points. Tensors are taken, too.
    """

    def __init__(  # noqa: PLR0913 - all but two are optional arrays
        self,
        boxes: Any = None,
        labels: Any = (),
        scores: Any = None,
        *,
        masks: Any = None,
        keypoints: Any = None,
        rotations: Any = None,
        polygons: Any = None,
    ) -> None:
        self.boxes = None
        if boxes is not None:
            self.boxes = _rows("boxes", boxes, "N x 4", (4,)).reshape(-1, 4)
        self.masks = masks
        self.keypoints = None
        if keypoints is not None:
            self.keypoints = _rows("keypoints", keypoints, "N x K x 2 or N x K x 3", (2, 3))
        self.rotations = None if rotations is None else _finite("rotations", rotations).ravel()
        self.polygons = polygons
        self.scores = None if scores is None else _finite("scores", scores).ravel()
        self.labels = [labels] if isinstance(labels, str) else _to_list(labels)
        self._check_lengths()

    def __len__(self) -> int:
        for items in (self.masks, self.keypoints, self.polygons, self.boxes):
            if items is not None:
                return len(items)
        return 0

    def _check_lengths(self) -> None:
        for name in ("boxes", "scores", "rotations", "labels"):
            items = getattr(self, name)
            if items is not None and len(items) != len(self) and (name != "labels" or len(items)):
                message = "the detections have %d objects and %d %s"
                raise ValueError(message % (len(self), len(items), name))

    def to_shapes(self, label_spec: Sequence[Label], threshold: float, size: Size) -> List[Shape]:
        """Return the shapes of objects at or above the threshold, the surest first.

        `size` is (width, height): shapes are clipped to it, and dropped if nothing is left.
        """
        order = numpy.arange(len(self))
        if self.scores is not None:
            order = numpy.argsort(-self.scores, kind="stable")
            order = order[self.scores[order] >= threshold]
        build = self._builder(size)
        results = [build(i, self._label(i, label_spec)) for i in order.tolist()]
        return [shape for shape in results if shape is not None]

    def _builder(self, size: Size) -> Callable[[int, Label], Optional[Shape]]:
        if self.masks is not None:
            build = self._mask
        elif self.keypoints is not None:
            build = self._skeleton
        elif self.polygons is not None:
            build = self._polygon
        else:
            build = self._rectangle
        return lambda index, label: build(index, label, size)

    def _label(self, index: int, label_spec: Sequence[Label]) -> Label:
        if not self.labels and len(label_spec) == 1:
            return label_spec[0]
        if not self.labels:
            message = "the detections have no labels, and the label spec of function.yaml has %d"
            raise ValueError(message % len(label_spec))
        label = self.labels[index]
        if isinstance(label, str):
            return next((item for item in label_spec if item["name"] == label), {"name": label})
        if label != int(label) or not 0 <= label < len(label_spec):
            message = "there is no label for the class %g: the label spec of function.yaml has %d"
            raise ValueError(message % (label, len(label_spec)))
        return label_spec[int(label)]

    def _score(self, index: int) -> Optional[float]:
        return None if self.scores is None else float(self.scores[index])

    def _rectangle(self, index: int, label: Label, size: Size) -> Optional[Shape]:
        assert self.boxes is not None
        box = self.boxes[index]
        rotation = 0.0 if self.rotations is None else float(self.rotations[index])
        if rotation % 360:
            # The corners before the rotation may be outside.
            centre = (box[:2] + box[2:]) / 2
            inside = bool(((centre >= 0) & (centre <= size)).all())
            if not inside or (box[2:] - box[:2]).min() < _SMALLEST_SIDE:
                return None
        else:
            box = clip_box(box, size)
            if box is None:
                return None
        return shapes.rectangle(label["name"], box, self._score(index), rotation=rotation)

    def _mask(self, index: int, label: Label, size: Size) -> Optional[Shape]:
        pixels = to_array(self.masks[index])
        if pixels.shape != (size[1], size[0]):
            message = "a mask covers the image: it has %d rows and %d columns, not %s"
            raise ValueError(message % (size[1], size[0], " x ".join(map(str, pixels.shape))))
        return mask_shape(label["name"], pixels, self._score(index))

    def _polygon(self, index: int, label: Label, size: Size) -> Optional[Shape]:
        corners = _finite("polygons", self.polygons[index]).reshape(-1, 2).clip(0, size)
        if len(corners) < 3 or _area(corners) < _SMALLEST_SIDE:
            return None
        return shapes.polygon(label["name"], corners, self._score(index))

    def _skeleton(self, index: int, label: Label, size: Size) -> Optional[Shape]:
        assert self.keypoints is not None
        keypoints = self.keypoints[index]
        places = keypoints[:, :2]
        visible = ((places >= 0) & (places <= size)).all(1)
        if keypoints.shape[1] > 2:
            visible &= keypoints[:, 2] >= _VISIBLE
        if not visible.any():
            return None
        places = places.clip(0, size)
        if label.get("type") == "points":
            return shapes.points(label["name"], places[visible], self._score(index))
        names = _sublabel_names(label, len(places))
        hidden = [name for name, seen in zip(names, visible) if not seen]  # noqa: B905
        points = dict(zip(names, places.tolist()))  # noqa: B905
        return shapes.skeleton(label["name"], points, self._score(index), hidden=hidden)


def to_shapes(
    result: Any, label_spec: Sequence[Label], threshold: float, size: Size
) -> List[Shape]:
    """Return the shapes of a detector's result: `Detections`, or shapes as dictionaries."""
    if isinstance(result, Detections):
        return result.to_shapes(label_spec, threshold, size)
    items = list(result)
    if not all(isinstance(item, dict) for item in items):
        raise TypeError("a detector returns Detections, or shapes such as vision.rectangle(...)")
    scores = [item.get("confidence") for item in items]
    return [
        item
        for item, score in zip(items, scores)  # noqa: B905 - no strict in 3.6
        if score is None or float(score) >= threshold
    ]


def clip_box(box: Any, size: Size) -> Any:
    """Return a box (4) clipped to the image, or None if less than a hundredth pixel is left."""
    clipped = numpy.asarray(box, "float64").clip(0, (*size, *size))
    return clipped if (clipped[2:] - clipped[:2]).min() >= _SMALLEST_SIDE else None


def mask_shape(label: str, pixels: Any, score: Any = None) -> Optional[Shape]:
    """Return a mask with its outline, or None if no pixel is set.

    CVAT needs the outline if the user wants polygons. It requires OpenCV.
    """
    pixels = to_array(pixels) != 0
    if not pixels.any():
        return None
    shape = shapes.mask(label, pixels, score)
    if cv2 is not None:
        left, top, right, bottom = shape["mask"][-4:]
        part = pixels[top : bottom + 1, left : right + 1].astype("uint8")
        contours = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[-2]
        outline = max(contours, key=cv2.contourArea).reshape(-1, 2) + numpy.array([left, top])
        if len(outline) >= 3:
            shape["points"] = outline.ravel().astype(float).tolist()
    return shape


def _sublabel_names(label: Label, count: int) -> List[str]:
    sublabels = label.get("sublabels") or []
    if sublabels and len(sublabels) != count:
        message = 'the label "%s" has %d sublabels in function.yaml, and the result %d keypoints'
        raise ValueError(message % (label["name"], len(sublabels), count))
    return [item["name"] for item in sublabels] or [str(number + 1) for number in range(count)]


def _finite(name: str, values: Any) -> Any:
    array = to_array(values).astype("float64")
    if numpy.isnan(array).any():
        raise ValueError("the %s of the detections have values that are not numbers (NaN)" % name)
    return array


def _rows(name: str, values: Any, form: str, lengths: Sequence[int]) -> Any:
    """Return an array of the form, such as "N x 4"; `lengths` are those of its last axis."""
    array = _finite(name, values)
    dimensions = form.partition(" or ")[0].count(" x ") + 1
    if array.size and (array.ndim != dimensions or array.shape[-1] not in lengths):
        message = "the %s of the detections are %s numbers, not %s"
        raise ValueError(message % (name, form, " x ".join(map(str, array.shape))))
    return array


def _to_list(values: Any) -> List[Any]:
    items = values.tolist() if hasattr(values, "tolist") else values
    return [item.item() if hasattr(item, "item") else item for item in items]


def _area(corners: Any) -> float:
    xs, ys = corners[:, 0], corners[:, 1]
    return abs(float((xs * numpy.roll(ys, -1) - ys * numpy.roll(xs, -1)).sum())) / 2
