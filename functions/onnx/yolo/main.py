"""Serves a YOLO model: model.onnx, or the one that STORAGE_URI names."""

import os
from pathlib import Path

from model_handler import ModelHandler

from fnbuild import vision


class Yolo(vision.Detector):
    threshold = 0.25

    def load(self, context):
        path = os.environ.get("STORAGE_URI") or Path(__file__).with_name("model.onnx")
        labels = {label.get("id", i): label["name"] for i, label in enumerate(self.label_spec)}
        # What the model does not say.
        unsaid = {"names": labels}
        for key, variable in (("task", "TASK"), ("imgsz", "IMAGE_SIZE")):
            if os.environ.get(variable):
                unsaid[key] = os.environ[variable]
        self.model = ModelHandler(path, labels, float(os.environ.get("OVERLAP") or 0.7), unsaid)
        self.mode = self.model.mode
        context.logger.info(f"{path}: {self.model.export.task}, on {self.model.engine.device}")

    def predict_batch(self, images, thresholds):
        return self.model.infer(images, thresholds)


init_context, handler = vision.export(Yolo)
