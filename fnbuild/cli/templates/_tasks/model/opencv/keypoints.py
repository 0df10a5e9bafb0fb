"""The outermost points of the largest thing that stands out by its brightness."""

import cv2
import numpy as np


class Model:
    def infer(self, image, threshold):
        """Return label, {name: (x, y)} in pixels and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0)
        _, binary = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        border = np.concatenate((binary[0], binary[-1], binary[:, 0], binary[:, -1]))
        if border.mean() > 0.5:
            binary = 1 - binary  # what most of the border shows is the ground
        contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not contours:
            return []
        contour = max(contours, key=cv2.contourArea)[:, 0]
        hull = cv2.contourArea(cv2.convexHull(contour))
        confidence = cv2.contourArea(contour) / hull if hull else 0.0
        if confidence < threshold:
            return []
        places = {
            "top": contour[contour[:, 1].argmin()],
            "right": contour[contour[:, 0].argmax()],
            "bottom": contour[contour[:, 1].argmax()],
            "left": contour[contour[:, 0].argmin()],
        }
        return [("object", places, confidence)]
