"""Follows shapes; the following itself is in model_handler.py.

The state of a shape travels with the requests, so any worker can take the next frame.
"""

from model_handler import ModelHandler

from fnbuild import vision


class OpticalFlow(vision.Tracker):
    mode = "L"
    types = ("rectangle", "polygon", "points")

    def load(self, context):
        self.model = ModelHandler()
        context.logger.info("The tracker is ready")

    def start(self, image, shape):
        return self.model.remember(image, shape.type, shape.points)

    def follow(self, image, state):
        points = self.model.follow(image, state)
        if points is None:
            return None, None
        state = self.model.remember(image, state["type"], points)
        return vision.TrackedShape(state["type"], points), state


init_context, handler = vision.export(OpticalFlow)
