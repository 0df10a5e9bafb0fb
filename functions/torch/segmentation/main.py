"""Finds the parts of a picture: a mask for each class."""

import os

from segments import Segments

from fnbuild import vision


class Parts(vision.Segmenter):
    def load(self, context):
        size = int(os.environ.get("SEGMENTATION_SIZE", "384"))
        self.segments = Segments(os.environ.get("STORAGE_URI"), size)
        context.logger.info(f"The network is loaded on {self.segments.device}")

    def predict(self, image):
        return self.segments.classes(image)


init_context, handler = vision.export(Parts)
