"""Segments what is clicked on or boxed, with SAM 2."""

import os

from model_handler import ModelHandler

from fnbuild import vision


class Segmented(vision.Interactor):
    # The API takes several boxes, each around another object; CVAT sends one.
    several_boxes = True
    # Of SAM 2, the embedding of an image has 17 MB.
    cache_bytes = int(os.environ.get("CACHE_MEBIBYTES", "512")) * 2**20

    def load(self, context):
        self.model = ModelHandler(os.environ.get("STORAGE_URI", "/mnt/models"))
        context.logger.info(f"The model is loaded on {self.model.device}")

    def embed(self, image):
        return self.model.embed(image)

    def predict(self, embedding, prompt):
        if not len(prompt.positive) and not len(prompt.boxes):
            raise vision.RequestError("send a point on the object or a box around it")
        if len(prompt.boxes) > 1 and len(prompt.positive) + len(prompt.negative):
            raise vision.RequestError("send points with one box at most")
        masks, scores = self.model.predict(
            embedding, prompt.positive, prompt.negative, prompt.boxes
        )
        return list(zip(masks, scores, strict=True))


init_context, handler = vision.export(Segmented)
