"""Finds people and their 17 keypoints."""

import os

import numpy as np
from pose import Pose

from fnbuild import vision

# Keypoints that the network is less sure of are hidden. It is rarely sure of more than 0.9.
VISIBLE = 0.3


class People(vision.Keypoints):
    def load(self, context):
        # The folder with the user's weights, if there are any.
        self.pose = Pose(os.environ.get("STORAGE_URI"))
        context.logger.info(f"The networks are loaded on {self.pose.device}")

    def predict(self, image, threshold):
        boxes, scores = self.pose.find_people(image, threshold)
        keypoints = self.pose.find_keypoints(image, boxes)
        keypoints = np.dstack([keypoints[:, :, :2], keypoints[:, :, 2] >= VISIBLE])
        return vision.Detections(boxes, scores=scores, keypoints=keypoints)


init_context, handler = vision.export(People)
