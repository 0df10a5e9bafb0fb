"""A small network in ONNX, run by OpenCV: boxes around what is red.

Put your own in the place of model.onnx; onnxruntime takes the same input (`_run`).
"""

from pathlib import Path

import cv2
import numpy as np

NETWORK = Path(__file__).with_name("model.onnx")
SIZE = 128  # the width and the height of the network's input
MOST = 10


class Model:
    def __init__(self):
        self.network = cv2.dnn.readNetFromONNX(str(NETWORK))

    def infer(self, image, threshold):
        """Return label, (left, top, right, bottom) in pixels and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        height, width = image.shape[:2]
        scores = self._run(image)[0]
        binary = (scores >= threshold).astype(np.uint8)
        count, parts, facts, _ = cv2.connectedComponentsWithStats(binary)
        scale = np.array([width, height] * 2) / SIZE
        objects = []
        for part in range(1, count):
            left, top, across, down = facts[part, :4]
            box = np.array([left, top, left + across, top + down]) * scale
            objects.append(("object", box, scores[parts == part].max()))
        return sorted(objects, key=lambda each: -each[2])[:MOST]

    def _run(self, image):
        self.network.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (SIZE, SIZE)))
        return self.network.forward()[0]
