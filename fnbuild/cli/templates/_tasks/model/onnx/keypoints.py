"""A small network in ONNX, run by OpenCV: where the brightness changes most, in four directions.

Put your own in the place of model.onnx; onnxruntime takes the same input (`_run`).
"""

from pathlib import Path

import cv2
import numpy as np

NETWORK = Path(__file__).with_name("model.onnx")
SIZE = 128  # the width and the height of the network's input
POINTS = ("top", "right", "bottom", "left")


class Model:
    def __init__(self):
        self.network = cv2.dnn.readNetFromONNX(str(NETWORK))

    def infer(self, image, threshold):
        """Return label, {name: (x, y)} in pixels and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        height, width = image.shape[:2]
        maps = self._run(image)
        confidence = float(maps.max(axis=(1, 2)).mean())
        if confidence < threshold:
            return []
        margin = (SIZE - maps.shape[2]) / 2  # the network leaves out the border
        places = {}
        for name, scores in zip(POINTS, maps, strict=True):
            row, column = np.unravel_index(scores.argmax(), scores.shape)
            x, y = (column + 0.5 + margin) * width / SIZE, (row + 0.5 + margin) * height / SIZE
            places[name] = (x, y)
        return [("object", places, confidence)]

    def _run(self, image):
        self.network.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (SIZE, SIZE)))
        return self.network.forward()[0]
