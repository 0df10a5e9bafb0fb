"""Faces by the Haar cascade that comes with OpenCV."""

import math

import cv2


class Model:
    def __init__(self):
        path = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
        self.cascade = cv2.CascadeClassifier(path)

    def infer(self, image, threshold):
        """Return label, (left, top, right, bottom) in pixels and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes, _, weights = self.cascade.detectMultiScale3(grey, outputRejectLevels=True)
        objects = []
        for (left, top, width, height), weight in zip(boxes, weights, strict=True):
            confidence = 1 / (1 + math.exp(3 - float(weight)))
            if confidence >= threshold:
                objects.append(("face", (left, top, left + width, top + height), confidence))
        return objects
