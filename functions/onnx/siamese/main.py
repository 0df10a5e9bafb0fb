"""Follows an object by its looks."""

import os
from pathlib import Path

import numpy as np
from tracker import Tracker

from fnbuild import vision


class Siamese(vision.Tracker):
    types = ("rectangle", "polygon")

    def load(self, context):
        # The user's networks, if there are any.
        folder = os.environ.get("STORAGE_URI") or Path(__file__).parent
        self.tracker = Tracker(folder)
        context.logger.info("The networks are loaded")

    def start(self, image, shape):
        points = np.array(shape.points, float).reshape(-1, 2)
        box = np.concatenate([points.min(0), points.max(0)])
        features = self.tracker.features(image, box).astype(np.float16)
        return {"type": shape.type, "points": points, "box": box, "features": features}

    def follow(self, image, state):
        before = np.array(state["box"])
        box = self.tracker.follow(image, before, state["features"].astype(np.float32))
        # The points move and grow with their box.
        growth = (box[2:] - box[:2]) / np.maximum(before[2:] - before[:2], 1)
        points = (state["points"] - before[:2]) * growth + box[:2]
        shape = vision.TrackedShape(state["type"], points.ravel().tolist())
        return shape, {**state, "points": points, "box": box}


init_context, handler = vision.export(Siamese)
