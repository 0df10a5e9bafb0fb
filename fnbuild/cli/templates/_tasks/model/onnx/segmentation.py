"""A small network in ONNX, run by OpenCV: the mask of what is red.

Put your own in the place of model.onnx; onnxruntime takes the same input (`_run`).
"""

from pathlib import Path

import cv2

NETWORK = Path(__file__).with_name("model.onnx")
SIZE = 128  # the width and the height of the network's input


class Model:
    def __init__(self):
        self.network = cv2.dnn.readNetFromONNX(str(NETWORK))

    def infer(self, image, threshold):
        """Return label, mask of the picture's size and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        height, width = image.shape[:2]
        scores = cv2.resize(self._run(image)[0], (width, height))
        mask = scores >= threshold
        return [("object", mask, scores[mask].mean())] if mask.any() else []

    def _run(self, image):
        self.network.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (SIZE, SIZE)))
        return self.network.forward()[0]
