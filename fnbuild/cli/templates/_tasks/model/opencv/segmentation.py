"""The largest things that stand out from the ground by their brightness (Otsu's threshold)."""

import cv2
import numpy as np

MOST = 5


class Model:
    def infer(self, image, threshold):
        """Return label, mask of the picture's size and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0)
        _, binary = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        border = np.concatenate((binary[0], binary[-1], binary[:, 0], binary[:, -1]))
        if border.mean() > 0.5:
            binary = 1 - binary  # what most of the border shows is the ground
        contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        objects = []
        for contour in sorted(contours, key=cv2.contourArea, reverse=True)[:MOST]:
            # How much of its convex hull a thing fills: what is frayed is rather ground.
            hull = cv2.contourArea(cv2.convexHull(contour))
            confidence = cv2.contourArea(contour) / hull if hull else 0.0
            if confidence >= threshold:
                mask = np.zeros(grey.shape, np.uint8)
                cv2.drawContours(mask, [contour], -1, 1, cv2.FILLED)
                objects.append(("object", mask, confidence))
        return objects
