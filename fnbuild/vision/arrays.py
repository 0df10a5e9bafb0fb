"""Arrays before and after a network: sizes, letterboxes, suppression, probabilities.

Sizes are (width, height) in pixels, as in OpenCV. OpenCV is used if the environment has it.
"""

from typing import Any, List, NamedTuple, Optional, Tuple, Union

from .optional_libraries import cv2, numpy

Size = Tuple[int, int]

_OPENCV_TYPES = ("uint8", "uint16", "int16", "float32", "float64")
_OPENCV_CHANNELS = 4
_INTERPOLATIONS = ("linear", "area", "nearest")


def to_array(values: Any) -> Any:
    """Return values as a NumPy array; a tensor is copied from its device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return numpy.asarray(values)


def softmax(logits: Any, axis: int = -1) -> Any:
    """Return the probabilities of logits, which add up to 1 along the axis."""
    logits = to_array(logits)
    powers = numpy.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def sigmoid(logits: Any) -> Any:
    """Return 1 / (1 + exp(-logits)), without overflows."""
    return 0.5 * (1 + numpy.tanh(0.5 * to_array(logits)))


def resize(image: Any, size: Size, interpolation: str = "linear") -> Any:
    """Return an image (H x W or H x W x C) or a mask with another size: (width, height).

    `interpolation` is "linear"; "area" for the mean of the covered pixels, which avoids patterns
    when an image gets smaller; or "nearest", which keeps classes of a map.
    """
    if interpolation not in _INTERPOLATIONS:
        message = '"%s" is not an interpolation; use %s'
        raise ValueError(message % (interpolation, ", ".join(_INTERPOLATIONS)))
    image = to_array(image)
    width, height = max(1, int(size[0])), max(1, int(size[1]))
    if image.shape[:2] == (height, width):
        return image
    if interpolation == "nearest":
        rows, columns = (_nearest(n, m) for n, m in zip((height, width), image.shape))  # noqa: B905
        return image[rows[:, None], columns[None]]
    if image.dtype == bool:
        return resize(image.astype("float32"), size, interpolation) > 0.5
    channels = image.shape[2] if image.ndim == 3 else 1
    if cv2 is not None and image.dtype.name in _OPENCV_TYPES and channels <= _OPENCV_CHANNELS:
        mode = cv2.INTER_AREA if interpolation == "area" else cv2.INTER_LINEAR
        resized = cv2.resize(image, (width, height), interpolation=mode)
        return resized.reshape((height, width, *image.shape[2:]))
    precise = image.astype("float32" if image.dtype.itemsize <= 4 else "float64")
    for axis, length in enumerate((height, width)):
        shrinks = length < image.shape[axis]
        along = _mean_along if interpolation == "area" and shrinks else _linear_along
        precise = along(precise, axis, length)
    if image.dtype.kind in "iu":
        limits = numpy.iinfo(image.dtype)
        precise = numpy.rint(precise).clip(limits.min, limits.max)
    return precise.astype(image.dtype)


def _nearest(length: int, before: int) -> Any:
    return ((numpy.arange(length) + 0.5) * before / length).astype(int)


def _linear_along(image: Any, axis: int, length: int) -> Any:
    before = image.shape[axis]
    places = ((numpy.arange(length) + 0.5) * before / length - 0.5).clip(0, before - 1)
    low = places.astype(int)
    shape = [1] * image.ndim
    shape[axis] = length
    part = (places - low).astype(image.dtype).reshape(shape)
    high = numpy.minimum(low + 1, before - 1)
    return image.take(low, axis) * (1 - part) + image.take(high, axis) * part


def _mean_along(image: Any, axis: int, length: int) -> Any:
    before = image.shape[axis]
    start = numpy.zeros_like(image.take([0], axis), "float64")
    sums = numpy.concatenate([start, image.cumsum(axis, "float64")], axis)
    edges = numpy.arange(length + 1) * before / length
    low = numpy.minimum(edges.astype(int), before - 1)
    shape = [1] * image.ndim
    shape[axis] = length + 1
    part = (edges - low).reshape(shape)
    sums = sums.take(low, axis) * (1 - part) + sums.take(low + 1, axis) * part
    return numpy.diff(sums, axis=axis) * (length / before)


class Letterbox(NamedTuple):
    """An image that was scaled and padded to fit a size.

    `scale` and `offset` are those of x and y; `size` is that of the original image.
    """

    image: Any
    scale: Tuple[float, float]
    offset: Tuple[int, int]
    size: Size

    def restore(self, coordinates: Any) -> Any:
        """Return coordinates in the original image: the last axis is x, y or x, y, x, y …."""
        values = to_array(coordinates).astype("float64")
        pairs = values.reshape((*values.shape[:-1], values.shape[-1] // 2, 2))
        return ((pairs - self.offset) / self.scale).reshape(values.shape)

    def restore_mask(self, mask: Any, interpolation: str = "linear") -> Any:
        """Return a mask of the padded image, at any resolution, as one of the original image."""
        mask = to_array(mask)
        height, width = self.image.shape[:2]
        down, across = mask.shape[0] / height, mask.shape[1] / width
        left, top = self.offset
        right = left + self.size[0] * self.scale[0]
        bottom = top + self.size[1] * self.scale[1]
        rows = slice(int(top * down), max(int(top * down) + 1, round(bottom * down)))
        columns = slice(int(left * across), max(int(left * across) + 1, round(right * across)))
        return resize(numpy.ascontiguousarray(mask[rows, columns]), self.size, interpolation)


def letterbox(
    image: Any, size: Union[int, Size], *, fill: int = 114, interpolation: str = "linear"
) -> Letterbox:
    """Scale an image to fit (width, height), or a square, and pad it evenly with `fill`."""
    width, height = (int(side) for side in numpy.broadcast_to(size, 2))
    before_height, before_width = image.shape[:2]
    ratio = min(width / before_width, height / before_height)
    across = min(width, max(1, round(before_width * ratio)))
    down = min(height, max(1, round(before_height * ratio)))
    left, top = (width - across) // 2, (height - down) // 2
    padded = numpy.full((height, width, *image.shape[2:]), fill, image.dtype)
    padded[top : top + down, left : left + across] = resize(image, (across, down), interpolation)
    scale = (across / before_width, down / before_height)
    return Letterbox(padded, scale, (left, top), (before_width, before_height))


def non_maximum_suppression(
    boxes: Any, scores: Any, iou: float = 0.5, labels: Optional[Any] = None
) -> Any:
    """Return the indexes of the boxes to keep, the surest first.

    Of two boxes (left, top, right, bottom) whose shared area is more than `iou` of their joined
    area, the surer one stays; with `labels` only boxes of the same label are compared.
    """
    boxes = to_array(boxes).astype("float64").reshape(-1, 4)
    if labels is not None and len(boxes):
        # Moved apart, boxes of different labels share no area.
        groups = numpy.unique(to_array(labels), return_inverse=True)[1].reshape(-1, 1)
        boxes = boxes + groups * (boxes.max() - boxes.min() + 1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    order = numpy.argsort(-to_array(scores).astype("float64"), kind="stable")
    kept: List[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = numpy.maximum(boxes[order, :2], boxes[best, :2])
        high = numpy.minimum(boxes[order, 2:], boxes[best, 2:])
        shared = (high - low).clip(0).prod(1)
        order = order[shared <= iou * (areas[order] + areas[best] - shared)]
    return numpy.array(kept, int)


def crop(image: Any, box: Any) -> Any:
    """Return the pixels of a box (left, top, right, bottom) that lie in the image, at least one."""
    return crop_with_margin(image, box, 0)[0]


def crop_with_margin(image: Any, box: Any, margin: int) -> Tuple[Any, Tuple[int, int]]:
    """Return the pixels of a box and of a margin around it, and the place (x, y) of the first one.

    It is as `crop` otherwise. What reads a small part of a large image is faster with it, and
    OpenCV's `warpAffine` takes no image with a side above 32,766 pixels.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(value)) for value in box)
    left = min(max(left - margin, 0), width - 1)
    top = min(max(top - margin, 0), height - 1)
    right = max(min(right + margin, width), left + 1)
    bottom = max(min(bottom + margin, height), top + 1)
    return image[top:bottom, left:right], (left, top)
