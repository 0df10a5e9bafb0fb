"""Re-identification: two frames with boxes in, which box is which out.

Put your own model into `load` and `embed`: boxes with similar vectors show the same thing.
"""

import cv2
import numpy as np

from fnbuild import vision


class ReIdentification(vision.ReId):
    mode = "BGR"  # or "RGB", "L"
    threshold = 0.5  # of the distance of two vectors, from 0 to 1
    max_distance = 50  # pixels that a box may move

    def load(self, context):
        # Load your model here: this runs once in each worker.
        context.logger.info("Ready")

    def embed(self, image, boxes):
        # The appearance of a box: a histogram of hue and saturation.
        return np.array([histogram(vision.crop(image, box)) for box in boxes])


def histogram(pixels):
    hsv = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_BGR2HSV)
    counts = cv2.calcHist([hsv], [0, 1], None, [24, 16], [0, 180, 0, 256])
    # The roots make the distance of two vectors that of Bhattacharyya, squared.
    return np.sqrt(counts / counts.sum()).ravel()


init_context, handler = vision.export(ReIdentification)
