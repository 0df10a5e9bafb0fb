"""The network with its weights: an image in, labelled boxes out."""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from network import DEEPEST, LABELS, Network, boxes

WEIGHTS = Path(__file__).with_name("shapes.pt")

# The network has learned shapes in images of this size.
LONGEST_SIDE = 256
# Of two boxes that share more than this part of their joined area, the surer one stays.
MOST_OVERLAP = 0.4


class ModelHandler:
    def __init__(self):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Network(len(LABELS))
        self.network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
        self.network.to(self.device).eval()

    @property
    def device_name(self):
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"the CPU (threads: {torch.get_num_threads()})"

    def infer(self, image, threshold):
        """Label, (left, top, right, bottom) in pixels and confidence of each shape, surest first.

        `image` is RGB as uint8, height x width x 3.
        """
        height, width = image.shape[:2]
        small, scales = _fit(image)
        batch = torch.from_numpy(small).to(self.device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            middles, sides = self.network(batch)
            scores, classes, found = boxes(middles[0], sides[0], threshold)
        found = (found.cpu().numpy() * scales).clip(0, [width, height, width, height])
        ranked = zip(scores.tolist(), classes.tolist(), found, strict=True)
        kept = []
        for score, number, box in ranked:
            if all(_overlap(box, other) <= MOST_OVERLAP for _, other, _ in kept):
                kept.append((LABELS[number], box, score))
        return kept


def _fit(image):
    """The image at the network's size, padded to whole cells of its deepest layer.

    And what brings coordinates back: x, y, x, y.
    """
    height, width = image.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=way)
    padding = [-length % DEEPEST for length in small.shape[:2]]
    # Repeated edges look like ground; a black stripe would look like a shape's side.
    small = np.pad(small, ((0, padding[0]), (0, padding[1]), (0, 0)), mode="edge")
    return small, np.tile([width / size[0], height / size[1]], 2)


def _overlap(one, other):
    """Shared area by joined area of two boxes."""
    shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(shared, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (one, other))
    return shared / max(areas - shared, 1e-6)
