"""Recognizes digits by the nearest known ones; the model is in model_handler.py."""

import os
import sys

from model_handler import ModelError, ModelHandler

from fnbuild import vision

# The number of distances in a reply.
COUNT = 5


class Digits(vision.Function):
    mode = "L"

    def load(self, context):
        folder = os.environ.get("STORAGE_URI") or self.function_folder
        try:
            self.model = ModelHandler(folder)
        except ModelError as error:
            # The message says it all: the error of the function has no traceback.
            sys.exit(str(error))
        context.logger.info(f"{len(self.model.labels)} digits are known, from {folder}")

    def read(self, event):
        return self.decode(event)

    def answer(self, image):
        distances, label = self.model.infer(image, COUNT)
        return {"dists": distances, "pred": label}


init_context, handler = vision.export(Digits)
