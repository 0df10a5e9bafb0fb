"""A detector: an image in, labelled shapes out. Put your own model into `load` and `predict`."""

import cv2
import numpy as np

from fnbuild import vision


class Detector(vision.Detector):
    mode = "L"  # or "RGB", "BGR"

    def load(self, context):
        # Runs once in each worker: what is loaded here serves every request.
        path = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
        self.model = cv2.CascadeClassifier(path)

    def predict(self, image, threshold):
        boxes, _, weights = self.model.detectMultiScale3(image, outputRejectLevels=True)
        boxes = np.reshape(boxes, (-1, 4))
        boxes[:, 2:] += boxes[:, :2]  # left, top, right, bottom
        # The labels are those of function.yaml; what is below the threshold is left out.
        return vision.Detections(boxes, [0] * len(boxes), vision.sigmoid(np.ravel(weights) - 3))


init_context, handler = vision.export(Detector)
