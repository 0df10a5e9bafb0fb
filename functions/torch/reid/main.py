"""Recognizes objects in the next frame by their looks."""

import os

from embedding import Embedding

from fnbuild import vision


class Looks(vision.ReId):
    def load(self, context):
        # Height x width of the pictures of your own network.
        height, width = os.environ.get("REID_SIZE", "256x128").split("x")
        self.embedding = Embedding(os.environ.get("STORAGE_URI"), (int(height), int(width)))
        context.logger.info(f"The network is loaded on {self.embedding.device}")

    def embed(self, image, boxes):
        return self.embedding.vectors(image, boxes)


init_context, handler = vision.export(Looks)
