"""Standing people by histograms of oriented gradients, with the weights that OpenCV ships."""

import math

import cv2
import numpy as np

LABEL = "person"

# The detector looks through a window of 64 x 128 pixels: people lower than a fifth of this size
# are missed. A larger size finds smaller people, takes longer and raises more false alarms.
LONGEST_SIDE = 540

# The height of a person in that window. OpenCV crashes on images much lower than its window.
LOWEST = 96

# Two boxes that share more than this part of their common area show one person.
OVERLAP = 0.4


class UnreadableImageError(ValueError):
    """The bytes are no image that OpenCV can decode."""


class ModelHandler:
    def __init__(self):
        self.detector = cv2.HOGDescriptor()
        self.detector.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def infer(self, data, threshold):
        """Rectangles in pixels of the image, the surest first."""
        image = decode(data)
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if image.shape[0] < LOWEST:
            return []
        # groupThreshold 0: overlapping boxes are settled below, by their weights.
        boxes, weights = self.detector.detectMultiScale(
            image, winStride=(4, 4), padding=(32, 32), scale=1.05, groupThreshold=0
        )
        found = []
        for box, weight in zip(boxes, weights, strict=True):
            confidence = probability(float(weight))
            if confidence >= threshold:
                found.append((confidence, person(box.tolist(), scale, width, height)))
        return [
            {
                # CVAT's functions send the confidence as a string.
                "confidence": f"{confidence:.4f}",
                "label": LABEL,
                "points": [round(value, 1) for value in points],
                "type": "rectangle",
            }
            for confidence, points in without_overlaps(found)
        ]


def person(box, scale, width, height):
    """The person in a window of the detector, which was trained with a margin around people."""
    left, top, across, down = (value / scale for value in box)
    return [
        max(0.0, left + 0.1 * across),
        max(0.0, top + 0.07 * down),
        min(float(width), left + 0.9 * across),
        min(float(height), top + 0.87 * down),
    ]


def without_overlaps(found):
    """The surest boxes, each standing for those that overlap it."""
    kept = []
    for confidence, box in sorted(found, reverse=True):
        if all(overlap(box, other) <= OVERLAP for _, other in kept):
            kept.append((confidence, box))
    return kept


def overlap(one, other):
    """The shared area of two boxes as a part of the area that both cover together."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    total = area(one) + area(other) - shared
    return shared / total if total > 0 else 0.0


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def probability(weight):
    """The detector's weight as a value from 0 to 1; most weights of real people exceed 0.5."""
    return 1 / (1 + math.exp(4 * (0.5 - weight)))


def decode(data):
    """Any image as 8-bit colours, turned upright by its EXIF tag."""
    if not data:
        raise UnreadableImageError("the image is empty")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        # A file that claims more pixels than OpenCV allows, for instance.
        image = None
    if image is None:
        raise UnreadableImageError("the image cannot be decoded; send JPEG, PNG, WebP, BMP or TIFF")
    return image
