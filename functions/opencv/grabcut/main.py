"""Cuts out objects; the cutting itself is in model_handler.py."""

import os

from model_handler import ModelHandler

from fnbuild import vision


class GrabCut(vision.Interactor):
    mode = "BGR"

    def load(self, context):
        self.model = ModelHandler()
        if os.environ.get("MASK_FORMAT") == "rows":
            self.reply_format = "mask"
        context.logger.info("GrabCut is ready")

    def predict(self, image, prompt):
        box = None if prompt.box is None else tuple(prompt.box.tolist())
        return self.model.infer(image, prompt.positive.tolist(), prompt.negative.tolist(), box)


init_context, handler = vision.export(GrabCut)
