"""The handler of the archive: rows of numbers in, their scaled sums out."""

import json
import os

import torch
from config import SCALE
from sub_module.network import Network
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    def initialize(self, context):
        folder = context.system_properties["model_dir"]
        path = os.path.join(folder, context.manifest["model"]["serializedFile"])
        self.model = Network()
        self.model.load_state_dict(torch.load(path, weights_only=True))
        self.initialized = True

    def preprocess(self, data):
        rows = [row.get("data") or row.get("body") for row in data]
        rows = [row if isinstance(row, dict) else json.loads(bytes(row)) for row in rows]
        return torch.tensor([row["data"] for row in rows], dtype=torch.float32)

    def inference(self, rows):
        with torch.inference_mode():
            return SCALE * self.model(rows)

    def postprocess(self, sums):
        return [{"sum": value} for value in sums.flatten().tolist()]
