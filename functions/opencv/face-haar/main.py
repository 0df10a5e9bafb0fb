"""Finds frontal faces by the Haar cascade that OpenCV ships."""

import cv2
import numpy as np

from fnbuild import vision

CASCADE = "haarcascade_frontalface_default.xml"
# Faces larger than 24 pixels at this size are found; larger images only take longer.
LONGEST_SIDE = 1600
# On photographs, real faces have this weight in the cascade's last stage, most false alarms less.
FACE_WEIGHT = 3


class Faces(vision.Detector):
    mode = "L"

    def load(self, context):
        self.cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)
        if self.cascade.empty():
            raise RuntimeError("this OpenCV has no " + CASCADE)
        context.logger.info("The face detector is loaded")

    def predict(self, image, threshold):
        height, width = image.shape
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        small = vision.resize(image, (round(width * scale), round(height * scale)), "area")
        boxes, _, weights = self.cascade.detectMultiScale3(
            small, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24), outputRejectLevels=True
        )
        boxes = np.reshape(boxes, (-1, 4)) / scale
        boxes[:, 2:] += boxes[:, :2]
        return vision.Detections(boxes, scores=vision.sigmoid(np.ravel(weights) - FACE_WEIGHT))


init_context, handler = vision.export(Faces)
