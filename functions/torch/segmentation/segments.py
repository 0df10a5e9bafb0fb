"""A network with its weights: a picture in, the class of every pixel and its probability out."""

import os
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from network import Network

BUNDLED = Path(__file__).with_name("segmentation.pt")
# The deepest layer sees one value for so many pixels; pictures are padded to a multiple of it.
DEEPEST = 32
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Segments:
    def __init__(self, path, size):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = load(Path(path) if path else BUNDLED, self.device)
        self.size = size

    def classes(self, image):
        """Return the class and the probability of every pixel of an RGB image (uint8)."""
        pixels, (height, width) = prepare(image, self.size)
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(pixels[None]).to(self.device))
            # Networks of torchvision return a dict, others a tuple.
            if isinstance(logits, dict):
                logits = logits["out"]
            elif isinstance(logits, (tuple, list)):
                logits = logits[0]
            chances = logits[0].float().softmax(0).cpu().numpy()
        return largest(chances[:, :height, :width], image.shape[1::-1])


def load(path, device):
    """Return a network: TorchScript, or the state dict of this function's own."""
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in (".pt", ".pth"))
        if len(files) != 1:
            raise SystemExit(f"{path} has {len(files)} files *.pt and *.pth: one is needed")
        path = files[0]
    if is_torchscript(path):
        # Its constants are loaded to the device, which `to` would not do.
        return torch.jit.load(path, device).eval()
    try:
        state = torch.load(path, "cpu", weights_only=True)
        return Network.with_weights(state).to(device)
    except (LookupError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        reason = str(problem).partition("\n")[0]
        # The error of the function has this text, and no traceback.
        raise SystemExit(
            f"{path} has neither TorchScript nor weights of network.py ({reason}): "
            "save your network by torch.jit.trace(network, pictures).save(path)"
        ) from None


def is_torchscript(path):
    """Return True if a file has code, and not weights alone."""
    return zipfile.is_zipfile(path) and any("/code/" in x for x in zipfile.ZipFile(path).namelist())


def prepare(image, size):
    """Return a normalized picture, 3 x height x width, and its size without the padding."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, shape, interpolation=way)
    below, right = (-length % DEEPEST for length in small.shape[:2])
    padded = np.pad(small, ((0, below), (0, right), (0, 0)), mode="edge")
    pixels = (padded.astype(np.float32) / 255 - MEAN) / DEVIATION
    return pixels.transpose(2, 0, 1), small.shape[:2]


def largest(chances, size):
    """Return the most probable class of each pixel at another size, and its probability.

    One class at a time is scaled: all of them would need gigabytes for the largest pictures.
    """
    classes = np.zeros(size[::-1], np.uint8)
    best = cv2.resize(chances[0], size, interpolation=cv2.INTER_LINEAR)
    for number in range(1, len(chances)):
        chance = cv2.resize(chances[number], size, interpolation=cv2.INTER_LINEAR)
        better = chance > best
        classes[better] = number
        best[better] = chance[better]
    return classes, best
