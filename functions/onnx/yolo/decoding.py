"""The outputs of an exported YOLO model as objects in the image."""

from typing import NamedTuple

import cv2
import numpy as np
from export import extra_values, misfit, table_layout

from fnbuild import vision
from fnbuild.vision.detections import mask_shape

# As many as Ultralytics keeps.
MOST_OBJECTS = 300


class Candidates(NamedTuple):
    """Rows of the output: boxes (N x 4), scores, classes, and what follows them in the row."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    extras: np.ndarray

    def select(self, rows):
        return Candidates(*(values[rows] for values in self))


class Decoder:
    """Decodes the outputs of an export.

    `names` are those by class: other classes are left out. Of two boxes of a class that overlap
    more than `overlap`, the surer one stays.
    """

    def __init__(self, export, names, overlap):
        self.export = export
        self.names = names
        self.overlap = overlap

    def decode(self, outputs, fitted, threshold):
        """Return the objects of one image as `vision.Detections`, or masks as shapes.

        `outputs` are those of the model for this image, and `fitted` is the letterboxed image.
        """
        outputs = [output.astype(np.float32, copy=False) for output in outputs]
        candidates = self._select(outputs, threshold)
        labels = [self.names[number] for number in candidates.classes.tolist()]
        if self.export.task == "obb":
            polygons = fitted.restore(corners(candidates.boxes, candidates.extras[:, -1]))
            return vision.Detections(polygons=polygons, labels=labels, scores=candidates.scores)
        boxes = fitted.restore(candidates.boxes)
        if self.export.task == "segment":
            masks = draw_masks(outputs[1], candidates.extras, boxes, fitted)
            rows = zip(labels, masks, candidates.scores, strict=True)
            shapes = [place_mask(*row) for row in rows]
            return [shape for shape in shapes if shape is not None]
        keypoints = None
        if self.export.task == "pose":
            keypoints = candidates.extras.reshape(-1, *self.export.keypoints).astype(np.float64)
            keypoints[..., :2] = fitted.restore(keypoints[..., :2])
        return vision.Detections(boxes, labels, candidates.scores, keypoints=keypoints)

    def _select(self, outputs, threshold):
        task = self.export.task
        extra = extra_values(self.export, len(outputs[-1]))
        candidates, suppressed = read_candidates(self.export, outputs[0], extra, threshold)
        candidates = candidates.select(np.isin(candidates.classes, list(self.names)))
        if not suppressed:
            candidates = candidates.select(
                suppress(candidates, self.overlap, oriented=task == "obb")
            )
        return candidates.select(slice(MOST_OBJECTS))


def read_candidates(export, table, extra, threshold):
    """Return the rows at or above the threshold, and True if the model has suppressed overlaps.

    `extra` is the number of values after the classes.
    """
    count = len(export.names)
    layout = table_layout(export, table.shape, extra)
    if layout == "classes":
        anchors = np.flatnonzero(table[4 : 4 + count].max(0) >= threshold)
        rows = table[:, anchors].T
        classes = rows[:, 4 : 4 + count]
        start = 4
    elif layout == "objects":
        rows = table[table[:, 4] >= threshold]
        classes = rows[:, 5 : 5 + count] * rows[:, 4:5]
        start = 5
    elif layout == "rows":
        rows = table[table[:, 4] >= threshold]
        by_class = rows[:, 5].astype(int)
        return Candidates(rows[:, :4], rows[:, 4], by_class, rows[:, 6:]), True
    else:
        raise misfit(export, table.shape)
    best = classes.argmax(1)
    scores = classes[np.arange(len(rows)), best]
    boxes = rows[:, :4]
    if export.task != "obb":
        centres, halves = boxes[:, :2], boxes[:, 2:] / 2
        boxes = np.hstack([centres - halves, centres + halves])
    candidates = Candidates(boxes, scores, best, rows[:, start + count :])
    return candidates.select(scores >= threshold), False


def suppress(candidates, overlap, *, oriented=False):
    """Return the indexes of the boxes to keep, the surest first."""
    if not oriented:
        return vision.non_maximum_suppression(
            candidates.boxes, candidates.scores, overlap, candidates.classes
        )
    order = np.argsort(-candidates.scores, kind="stable")
    boxes = np.hstack([candidates.boxes, candidates.extras[:, -1:]])[order].astype(np.float64)
    same_class = candidates.classes[order][:, None] == candidates.classes[order]
    covered = np.triu(same_class & (likeness(boxes) > overlap), 1).any(0)
    return order[~covered]


def likeness(boxes):
    """Return the likeness (N x N) of oriented boxes: centre, size, angle.

    It is 1 minus the Hellinger distance of the boxes as Gaussian distributions (Llerena et al.,
    2021), which Ultralytics uses instead of the shared area.
    """
    x, y, width, height, angle = boxes.T
    along, across = width**2 / 12, height**2 / 12
    cosine, sine = np.cos(angle), np.sin(angle)
    a = along * cosine**2 + across * sine**2
    b = along * sine**2 + across * cosine**2
    c = (along - across) * cosine * sine
    own = np.maximum(a * b - c**2, 0)
    a, b, c = (values[:, None] + values for values in (a, b, c))
    dx, dy = x[:, None] - x, y[:, None] - y
    tiny = 1e-7
    joined = a * b - c**2
    distance = (a * dy**2 + b * dx**2) / (joined + tiny) / 4
    distance -= c * dx * dy / (joined + tiny) / 2
    distance += np.log(joined / (4 * np.sqrt(own[:, None] * own) + tiny) + tiny) / 2
    return 1 - np.sqrt(1 - np.exp(-distance.clip(tiny, 100)) + tiny)


def corners(boxes, angles):
    """Return the corners (N x 4 x 2) of boxes given by centre, size and angle in radians."""
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    along = boxes[:, 2:3] / 2 * np.hstack([cosine, sine])
    across = boxes[:, 3:4] / 2 * np.hstack([-sine, cosine])
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    return np.stack([boxes[:, :2] + i * along + j * across for i, j in signs], 1)


def draw_masks(prototypes, coefficients, boxes, fitted):
    """Yield the mask of each object in its box, with the left and the top of it.

    Masks of the whole image would take too much memory if it is large.
    """
    count, height, width = prototypes.shape
    logits = (coefficients @ prototypes.reshape(count, -1)).reshape(-1, height, width)
    # From pixels of the image to those of the prototypes, whose centres are at .5.
    ratio = np.array([width, height]) / fitted.image.shape[1::-1]
    scale = np.array(fitted.scale) * ratio
    shift = (0.5 * np.array(fitted.scale) + fitted.offset) * ratio - 0.5
    for logit, box in zip(logits, boxes, strict=True):
        left, top = np.maximum(np.ceil(box[:2]), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(box[2:]), fitted.size).astype(int).tolist()
        if left >= right or top >= bottom:
            yield np.zeros((1, 1), bool), 0, 0
            continue
        x, y = shift + (left, top) * scale
        values = cv2.warpAffine(
            logit,
            np.array([[scale[0], 0, x], [0, scale[1], y]]),
            (right - left, bottom - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        yield values > 0, left, top


def place_mask(label, mask, score):
    """Return the shape of a mask in its box, or None if it is empty."""
    pixels, left, top = mask
    shape = mask_shape(label, pixels, score)
    if shape is not None:
        shape["mask"][-4:] = np.add(shape["mask"][-4:], (left, top, left, top)).tolist()
        if shape["points"]:
            outline = np.reshape(shape["points"], (-1, 2))
            shape["points"] = np.add(outline, (left, top)).ravel().tolist()
    return shape
