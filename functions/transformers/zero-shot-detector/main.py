"""Locates what the names of the labels, or the prompts of a request, say."""

import os

from model_handler import ModelHandler

from fnbuild import vision


class Prompted(vision.Detector):
    # Scores are far lower than those of detectors with fixed classes.
    threshold = 0.25

    def load(self, context):
        self.model = ModelHandler(os.environ.get("STORAGE_URI", "/mnt/models"))
        context.logger.info(f"{len(self.labels)} labels, on {self.model.device}")

    def arguments(self, request):
        return (*super().arguments(request), request.request.values.get("text_prompts"))

    def predict(self, image, threshold, prompts):
        prompts = prompts or self.labels
        if not isinstance(prompts, list) or not all(
            isinstance(text, str) and text.strip() for text in prompts
        ):
            raise vision.RequestError('"text_prompts" must be a list of texts')
        boxes, numbers, scores = self.model.infer(image, prompts, threshold)
        return vision.Detections(boxes, [prompts[number] for number in numbers], scores)


init_context, handler = vision.export(Prompted)
