"""The network with its weights and labels: an image in, probabilities out."""

import os
import pickle
from pathlib import Path

import numpy as np
import torch
from network import MobileNet
from torch.nn import functional

SUFFIXES = (".pt", ".pth")
LABELS = "labels.txt"
SIZE = 224
# The part of the shorter side that the network sees.
CROP = 0.875
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class ModelError(Exception):
    """The model cannot be served; the message names the file, the cause and the remedy."""


class ModelHandler:
    def __init__(self, storage):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.path = find_weights(Path(storage))
        self.network = load_network(self.path).to(self.device).eval()
        self.labels = read_labels(self.path, self.network.classifier[1].out_features)

    def infer(self, image):
        """Return the probability of each label.

        `image` is RGB as uint8, height x width x 3.
        """
        pixels = prepare(image).to(self.device)
        with torch.inference_mode():
            return self.network(pixels[None])[0].softmax(0)


def find_weights(storage):
    """Return the file with the weights; `storage` is that file or its folder."""
    if storage.is_file():
        return storage
    paths = sorted(storage.iterdir()) if storage.is_dir() else []
    weights = [path for path in paths if path.suffix in SUFFIXES]
    if len(weights) != 1:
        names = ", ".join(path.name for path in weights) or "no weights"
        wanted = " or ".join("*" + suffix for suffix in SUFFIXES)
        raise ModelError(
            f"{storage} has {names} instead of one file {wanted}: STORAGE_URI names the weights"
        )
    return weights[0]


def load_network(path):
    """Return the network with the weights of the file, for as many classes as they have."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network = MobileNet(len(weights["classifier.1.bias"]))
        network.load_state_dict(weights)
    except (LookupError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise ModelError(
            f"{path} does not have the weights of a MobileNetV2 ({reason}): "
            "save them by torch.save(network.state_dict(), path)"
        ) from None
    return network


def read_labels(weights, count):
    """Return the labels of the classes: a line for each, beside the weights or this file."""
    places = [weights.with_name(LABELS), Path(__file__).with_name(LABELS)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ModelError(
            f"there is no {places[0]}: it has {count} lines, with the label of each class"
        )
    labels = path.read_text(encoding="utf-8").splitlines()
    if len(labels) != count:
        raise ModelError(f"{path} has {len(labels)} labels, and the weights {count} classes")
    return labels


def prepare(image):
    """Return the middle of an image at the size of the network, normalized."""
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * CROP))
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.ascontiguousarray(image[top : top + side, left : left + side])
    pixels = torch.from_numpy(middle).permute(2, 0, 1)[None]
    small = functional.interpolate(
        pixels, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True
    )[0]
    return (small.float() / 255 - MEAN) / DEVIATION
