"""Follows masks, polygons and rectangles with SAM 2. States travel with the requests."""

import os

from model_handler import ModelHandler, fill_polygon, outline

from fnbuild import vision


class Tracked(vision.Tracker):
    types = ("mask", "polygon", "rectangle")

    def load(self, context):
        storage = os.environ.get("STORAGE_URI", "/mnt/models")
        self.model = ModelHandler(storage, int(os.environ.get("MEMORY_FRAMES", "3")))
        context.logger.info(f"The model is loaded on {self.model.device}")

    def embed(self, image):
        return self.model.embed(image)

    def start(self, frame, shape):
        mask = shape.points if shape.type == "mask" else None
        if shape.type == "polygon":
            mask = fill_polygon(shape.points, shape.size)
        return {**self.model.start(frame, shape.box, mask), "type": shape.type}

    def follow(self, frame, state):
        if state.get("form") != self.model.form:
            raise vision.RequestError("this state is of another model: draw the shape again")
        mask, following = self.model.follow(frame, state)
        shape = vision.TrackedShape("mask", mask) if mask.any() else None
        if shape and state["type"] == "rectangle":
            shape = vision.TrackedShape("rectangle", shape.box)
        elif shape and state["type"] == "polygon":
            corners = outline(mask)
            shape = None if corners is None else vision.TrackedShape("polygon", corners)
        return shape, {**following, "type": state["type"]}


init_context, handler = vision.export(Tracked)
