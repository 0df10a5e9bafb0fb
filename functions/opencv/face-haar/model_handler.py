"""The Haar cascade for frontal faces, as OpenCV ships it."""

import math

import cv2
import numpy as np

LABEL = "face"
CASCADE = "haarcascade_frontalface_default.xml"

# Faces larger than 24 pixels at this size are found; larger images only take longer.
LONGEST_SIDE = 1600


class UnreadableImageError(ValueError):
    """The bytes are no image that OpenCV can decode."""


class ModelHandler:
    def __init__(self):
        self.cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)
        if self.cascade.empty():
            raise RuntimeError("this OpenCV has no " + CASCADE)

    def infer(self, data, threshold):
        """Rectangles in pixels of the image, the surest first."""
        grey = decode(data)
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
                points = [left, top, min(left + across, width), min(top + down, height)]
                found.append((confidence, points))
        found.sort(reverse=True)
        return [
            {
                # CVAT's functions send the confidence as a string.
                "confidence": f"{confidence:.4f}",
                "label": LABEL,
                "points": [round(value, 1) for value in points],
                "type": "rectangle",
            }
            for confidence, points in found
        ]


def probability(weight):
    """The weight of the cascade's last stage as a value from 0 to 1.

    On photographs real faces weigh 3 and more, most false alarms less.
    """
    return 1 / (1 + math.exp(3 - weight))


def decode(data):
    """Any image as 8-bit grey, turned upright by its EXIF tag: the detector needs no colours."""
    if not data:
        raise UnreadableImageError("the image is empty")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        # A file that claims more pixels than OpenCV allows, for instance.
        image = None
    if image is None:
        raise UnreadableImageError("the image cannot be decoded; send JPEG, PNG, WebP, BMP or TIFF")
    return image
