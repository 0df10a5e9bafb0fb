"""Finds circles, squares and triangles; the network with its weights is beside this file."""

import os
from pathlib import Path

import numpy as np
import torch
from network import DEEPEST, LABELS, Network, boxes

from fnbuild import vision

WEIGHTS = Path(__file__).with_name("shapes.pt")
# The network has learned shapes in images of this size.
LONGEST_SIDE = 256
# Of two boxes that share more than this part of their joined area, the surer one stays.
MOST_OVERLAP = 0.4


class Shapes(vision.Detector):
    def load(self, context):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Network(len(LABELS)).to(self.device).eval()
        self.network.load_state_dict(torch.load(WEIGHTS, self.device, weights_only=True))
        context.logger.info(f"The network is loaded on {self.device}")

    def predict(self, image, threshold):
        height, width = image.shape[:2]
        scale = LONGEST_SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = vision.resize(image, size, "area")
        padding = [(0, -length % DEEPEST) for length in small.shape[:2]]
        # Repeated edges look like ground; a black stripe would look like a shape's side.
        pixels = torch.from_numpy(np.pad(small, [*padding, (0, 0)], mode="edge")).to(self.device)
        with torch.inference_mode():
            middles, sides = self.network(pixels.permute(2, 0, 1)[None].float() / 255)
            scores, classes, corners = boxes(middles[0], sides[0], threshold)
        corners = corners.cpu().numpy() * np.tile([width / size[0], height / size[1]], 2)
        corners = corners.clip(0, [width, height, width, height])
        kept = vision.non_maximum_suppression(corners, scores, MOST_OVERLAP)
        return vision.Detections(corners[kept], classes[kept], scores[kept])


init_context, handler = vision.export(Shapes)
