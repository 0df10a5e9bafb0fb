"""Standing people by histograms of oriented gradients, with the weights that OpenCV ships."""

import math

import cv2

LABEL = "person"

# The detector looks through a window of 64 x 128 pixels: people lower than a fifth of this size
# are missed. A larger size finds smaller people, takes longer and raises more false alarms.
LONGEST_SIDE = 540

# The height of a person in that window. OpenCV crashes on images much lower than its window.
LOWEST = 96

# Two boxes that share more than this part of their common area show one person.
OVERLAP = 0.4


class ModelHandler:
    def __init__(self):
        self.detector = cv2.HOGDescriptor()
        self.detector.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def infer(self, image, threshold):
        """(left, top, right, bottom) in pixels and confidence of each person, the surest first.

        `image` is in BGR.
        """
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
                found.append((person(box.tolist(), scale, width, height), confidence))
        return without_overlaps(found)


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
    for box, confidence in sorted(found, key=lambda each: -each[1]):
        if all(overlap(box, other) <= OVERLAP for other, _ in kept):
            kept.append((box, confidence))
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
