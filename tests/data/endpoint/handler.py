"""An endpoint handler of Hugging Face that returns the results of one pipeline after another."""

import base64
import io
import json
import os

import numpy
from PIL import Image


class EndpointHandler:
    def __init__(self, model_dir):
        with open(os.path.join(model_dir, "config.json")) as file:
            self.labels = json.load(file)["id2label"]
        self.calls = 0

    def __call__(self, data):
        inputs = data.pop("inputs", data)
        parameters = data.pop("parameters", {})
        if not isinstance(inputs, Image.Image):
            return {"inputs": inputs, "parameters": parameters, "array": numpy.arange(3)}
        width, height = inputs.size
        self.calls += 1
        pixels = numpy.zeros((height, width), numpy.uint8)
        pixels[2:4, 3:6] = 255
        mask = Image.fromarray(pixels)
        out = io.BytesIO()
        mask.save(out, "PNG")
        box = {"xmin": 1, "ymin": 2, "xmax": width, "ymax": height}
        score = numpy.float32(0.75)
        return {
            1: [{"label": self.labels["0"], "score": score, "box": box}],
            2: [[{"label": "cat", "score": 0.5}, {"label": "dog", "score": 0.25}]],
            3: [
                {"label": "cat", "score": None, "mask": mask},
                {"label": "dog", "score": 0.9, "mask": base64.b64encode(out.getvalue()).decode()},
                {"label": "dog", "score": 0.9, "mask": pixels * 0},
            ],
            4: {"depth": mask, "threshold": parameters.get("threshold")},
            5: [],
        }[self.calls]
