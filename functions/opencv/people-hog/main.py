"""Finds standing people by histograms of oriented gradients, with weights that OpenCV ships."""

import cv2
import numpy as np

from fnbuild import vision

# The detector's window has 64 x 128 pixels: people lower than a fifth of this size are missed. A
# larger size finds smaller people, takes longer and raises more false alarms.
LONGEST_SIDE = 540
# The height of a person in that window. OpenCV crashes on images much lower than its window.
LOWEST = 96
# The person's sides in that window, in parts of its width and height.
PERSON = np.array([0.1, 0.07, 0.9, 0.87])
# Two boxes that share more than this part of their common area show one person.
OVERLAP = 0.4


class People(vision.Detector):
    mode = "BGR"

    def load(self, context):
        self.detector = cv2.HOGDescriptor()
        self.detector.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
        context.logger.info("The people detector is loaded")

    def predict(self, image, threshold):
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        small = vision.resize(image, (round(width * scale), round(height * scale)), "area")
        if small.shape[0] < LOWEST:
            return []
        # groupThreshold 0: overlapping boxes are settled below, by their weights.
        windows, weights = self.detector.detectMultiScale(
            small, winStride=(4, 4), padding=(32, 32), scale=1.05, groupThreshold=0
        )
        windows = np.reshape(windows, (-1, 4)) / scale
        boxes = np.tile(windows[:, :2], 2) + np.tile(windows[:, 2:], 2) * PERSON
        # Most weights of real people exceed 0.5.
        scores = vision.sigmoid(4 * (np.ravel(weights) - 0.5))
        boxes, scores = boxes[scores >= threshold], scores[scores >= threshold]
        kept = vision.non_maximum_suppression(boxes, scores, OVERLAP)
        return vision.Detections(boxes[kept], scores=scores[kept])


init_context, handler = vision.export(People)
