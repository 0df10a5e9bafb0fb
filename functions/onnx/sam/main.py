"""Segments what is clicked on or boxed, with exports of SAM."""

import base64
import os

import numpy as np
from model_handler import ModelHandler

from fnbuild import vision

# CVAT runs the decoder of the function with this name in the browser.
BROWSER_NAME = "pth-facebookresearch-sam-vit-h"


class Clicked(vision.Interactor):
    decodes_in_browser = os.environ.get("NUCLIO_FUNCTION_NAME") == BROWSER_NAME
    needs_prompt = not decodes_in_browser
    # An embedding has 4 MB.
    cache_bytes = int(os.environ.get("CACHE_MEBIBYTES", "512")) * 2**20

    def load(self, context):
        self.model = ModelHandler(os.environ.get("STORAGE_URI", "/mnt/models"))
        context.logger.info(f"The model is loaded on {self.model.device}")

    def embed(self, image):
        return self.model.embed(image)

    def answer(self, request):
        if not self.decodes_in_browser:
            return super().answer(request)
        values = np.ascontiguousarray(request.subject["embedding"], np.float32)
        return {"blob": base64.b64encode(values).decode()}

    def predict(self, frame, prompt):
        if not len(prompt.positive) and prompt.box is None:
            raise vision.RequestError("send a point on the object or a box around it")
        return self.model.predict(frame, prompt.positive, prompt.negative, prompt.box)


init_context, handler = vision.export(Clicked)
