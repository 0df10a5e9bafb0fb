"""Digits by the nearest ones in a faiss index."""

import io
import json
import os

import faiss
import numpy as np
import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler


class MyHandler(BaseHandler):
    def initialize(self, context):
        folder = context.system_properties["model_dir"]
        weights = context.manifest["model"]["serializedFile"]
        self.model = torch.jit.load(os.path.join(folder, weights)).eval()
        self.index = faiss.read_index(os.path.join(folder, "faiss_index.bin"))
        with open(os.path.join(folder, "faiss_label.json")) as file:
            self.labels = json.load(file)
        self.initialized = True

    def preprocess(self, data):
        files = [row.get("data") or row.get("body") for row in data]
        images = [Image.open(io.BytesIO(file)).convert("L") for file in files]
        pixels = [torch.from_numpy(np.asarray(image, np.float32)) / 255 for image in images]
        pool = torch.nn.functional.adaptive_avg_pool2d
        return torch.stack([pool(image[None], 8) for image in pixels])

    def inference(self, images):
        with torch.inference_mode():
            return self.model(images).numpy()

    def postprocess(self, vectors):
        distances, places = self.index.search(vectors, 5)
        return [
            {"dists": row.tolist(), "pred": self.labels[place[0]]}
            for row, place in zip(distances, places)
        ]
