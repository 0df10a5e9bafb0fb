"""Classifies images for CVAT, V1 and V2; the network is in model_handler.py."""

import os
import sys

from model_handler import ModelError, ModelHandler

from fnbuild import vision


class Classes(vision.Classifier):
    # Labels of an image, in CVAT and in V2.
    most = 5

    def load(self, context):
        try:
            self.model = ModelHandler(os.environ.get("STORAGE_URI", "/mnt/models"))
        except ModelError as error:
            # The message says it all: the error of the function has no traceback.
            sys.exit(str(error))
        self.labels = self.model.labels
        device, path = self.model.device, self.model.path
        context.logger.info(f"{path} has {len(self.labels)} classes, on {device}")

    def predict(self, image):
        return self.model.infer(image)

    def content(self, result, request):
        if request.protocol == "v1":
            label, probability = self.rank(result)[0]
            return [label, f"{round(probability * 100, 2)}%"]
        return super().content(result, request)


init_context, handler = vision.export(Classes)
