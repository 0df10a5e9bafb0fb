"""A small network in ONNX, run by OpenCV: whether a picture is sharp.

Put your own in the place of model.onnx; onnxruntime takes the same input (`_run`).
"""

from pathlib import Path

import cv2

NETWORK = Path(__file__).with_name("model.onnx")
SIZE = 128  # the width and the height of the network's input


class Model:
    def __init__(self):
        self.network = cv2.dnn.readNetFromONNX(str(NETWORK))

    def infer(self, image):
        """Return the probability of each label, in the order of function.yaml.

        `image` is RGB as uint8, height x width x 3.
        """
        return self._run(image).ravel()

    def _run(self, image):
        self.network.setInput(cv2.dnn.blobFromImage(image, 1 / 255, (SIZE, SIZE)))
        return self.network.forward()[0]
