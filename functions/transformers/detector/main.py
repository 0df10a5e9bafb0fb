"""Locates objects with a detection model of transformers."""

import os

from model_handler import ModelError, ModelHandler

from fnbuild import vision


class Objects(vision.Detector):
    def load(self, context):
        self.model = ModelHandler(os.environ.get("STORAGE_URI", "/mnt/models"))
        names = sorted(set(self.model.labels.values()))
        common = set(names).intersection(self.labels)
        if not common:
            raise ModelError(
                "no label of the model is in the label spec of function.yaml, whose names must be"
                f" those of id2label in the model's config.json: {', '.join(names[:20])}"
            )
        context.logger.info(f"{len(common)} of {len(names)} labels, on {self.model.device}")

    def predict(self, image, threshold):
        boxes, labels, scores = self.model.infer(image, threshold)
        # CVAT offers the labels of the label spec only.
        kept = [index for index, label in enumerate(labels) if label in self.labels]
        return vision.Detections(boxes[kept], [labels[index] for index in kept], scores[kept])


init_context, handler = vision.export(Objects)
