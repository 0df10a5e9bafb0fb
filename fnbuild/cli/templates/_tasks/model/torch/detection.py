"""A small network in PyTorch, made from the configuration below.

It has learned nothing yet: put the weights of your own beside this file as weights.pt.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

WEIGHTS = Path(__file__).with_name("weights.pt")
SIZE = 128  # pictures are shrunk to this width and height
CHANNELS = (8, 16)
MOST = 10


class Model:
    def __init__(self):
        torch.manual_seed(0)
        torch.set_num_threads(1)  # each worker is a process: more would only disturb one another
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        layers, before = [], 3
        for channels in CHANNELS:
            layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1), nn.ReLU()]
            before = channels
        # A confidence for each cell, and how far it is to the box's four sides, in cells.
        layers.append(nn.Conv2d(before, 5, 1))
        self.network = nn.Sequential(*layers)
        if WEIGHTS.exists():
            self.network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
        self.network.to(self.device).eval()

    def infer(self, image, threshold):
        """Return label, (left, top, right, bottom) in pixels and confidence of each thing.

        `image` is RGB as uint8, height x width x 3.
        """
        height, width = image.shape[:2]
        scores, *sides = self._run(image)
        scores = 1 / (1 + np.exp(-scores))
        rows, columns = np.nonzero(scores >= threshold)
        best = np.argsort(-scores[rows, columns])[:MOST]
        across, down = width / scores.shape[1], height / scores.shape[0]
        objects = []
        for row, column in zip(rows[best], columns[best], strict=True):
            left, top, right, bottom = (0.5 + abs(side[row, column]) for side in sides)
            box = (column + 0.5 - left) * across, (row + 0.5 - top) * down
            box += (column + 0.5 + right) * across, (row + 0.5 + bottom) * down
            box = np.clip(box, 0, (width, height, width, height))
            objects.append(("object", box, scores[row, column]))
        return objects

    @torch.inference_mode()
    def _run(self, image):
        batch = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        small = nn.functional.interpolate(batch, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.network(small)[0].cpu().numpy()
