"""The network with its weights: boxes of an image in, one vector for each out."""

import os
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from network import SIZE, Network

BUNDLED = Path(__file__).with_name("reid.pt")
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
# Boxes in one forward pass of the network; more are taken in turn.
BATCH = 64


class Embedding:
    def __init__(self, path, size):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network, self.size = load(path, size, self.device)
        self.network = network.eval()

    def vectors(self, image, boxes):
        """Return N vectors of length 1 for N boxes of an RGB image (uint8)."""
        parts = []
        for i in range(0, len(boxes), BATCH):
            pictures = np.stack([cut(image, box, self.size) for box in boxes[i : i + BATCH]])
            with torch.inference_mode():
                vectors = self.network(torch.from_numpy(pictures).to(self.device))
            parts.append(torch.nn.functional.normalize(vectors.float()).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def load(path, size, device):
    """Return a network and the height and width of its pictures: TorchScript, or our weights."""
    path = path or BUNDLED
    if is_torchscript(path):
        # Its constants are loaded to the device, which `to` would not do.
        return torch.jit.load(path, device), size
    network = Network()
    try:
        state = torch.load(path, "cpu", weights_only=True)
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        reason = str(problem).partition("\n")[0]
        # The error of the function has this text, and no traceback.
        raise SystemExit(
            f"{path} has neither TorchScript nor weights of network.py ({reason}): "
            "save your network by torch.jit.trace(network, pictures).save(path)"
        ) from None
    return network.to(device), SIZE


def is_torchscript(path):
    """Return True if a file has code, and not weights alone."""
    return zipfile.is_zipfile(path) and any("/code/" in x for x in zipfile.ZipFile(path).namelist())


def cut(image, box, size):
    """Return what is in a box, normalized: 3 x height x width."""
    height, width = image.shape[:2]
    left, top = (int(value) for value in np.floor(np.clip(box[:2], 0, (width - 1, height - 1))))
    right, bottom = (int(value) for value in np.ceil(np.clip(box[2:], 1, (width, height))))
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    small = cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA)
    return ((small.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)
