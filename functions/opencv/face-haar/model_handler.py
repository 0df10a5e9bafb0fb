"""The Haar cascade for frontal faces, as OpenCV ships it."""

import math

import cv2

LABEL = "face"
CASCADE = "haarcascade_frontalface_default.xml"

# Faces larger than 24 pixels at this size are found; larger images only take longer.
LONGEST_SIDE = 1600


class ModelHandler:
    def __init__(self):
        self.cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)
        if self.cascade.empty():
            raise RuntimeError("this OpenCV has no " + CASCADE)

    def infer(self, grey, threshold):
        """(left, top, right, bottom) in pixels and confidence of each face, the surest first."""
        height, width = grey.shape
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        boxes, _, weights = self.cascade.detectMultiScale3(
            grey,
            scaleFactor=1.1,
            minNeighbors=5,
            minSize=(24, 24),
            outputRejectLevels=True,
        )
        found = []
        for box, weight in zip(boxes, weights, strict=True):
            confidence = probability(float(weight))
            if confidence >= threshold:
                left, top, across, down = (value / scale for value in box.tolist())
                right, bottom = min(left + across, width), min(top + down, height)
                found.append(((left, top, right, bottom), confidence))
        return sorted(found, key=lambda each: -each[1])


def probability(weight):
    """The weight of the cascade's last stage as a value from 0 to 1.

    On photographs real faces weigh 3 and more, most false alarms less.
    """
    return 1 / (1 + math.exp(3 - weight))
