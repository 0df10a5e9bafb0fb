"""Whether a picture is sharp, by how much its brightness changes from pixel to pixel."""

import cv2

SHARP = 100.0  # the variance of the Laplacian above which a picture counts as sharp


class Model:
    def infer(self, image):
        """Return the probability of each label, in the order of function.yaml.

        `image` is RGB as uint8, height x width x 3.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        variance = float(cv2.Laplacian(grey, cv2.CV_64F).var())
        sharp = variance / (variance + SHARP)
        return [sharp, 1 - sharp]
