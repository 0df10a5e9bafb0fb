"""The network and the index of the vectors of known digits: an image in, the nearest digits out."""

import json
import os
import pickle

import faiss
import numpy as np
import torch
from network import LENGTH, SIZE, Embedding
from torch.nn import functional

MODEL, INDEX, LABELS = "model.pt", "faiss_index.bin", "faiss_label.json"


class ModelError(Exception):
    """The model cannot be served; the message names the file, the cause and the remedy."""


class ModelHandler:
    def __init__(self, folder):
        if "OMP_NUM_THREADS" not in os.environ:
            # Each worker is a process: with more threads they would only disturb one another.
            torch.set_num_threads(1)
            faiss.omp_set_num_threads(1)
        self.network = read_file(folder, MODEL, load_network)
        self.index = read_file(folder, INDEX, faiss.read_index)
        self.labels = read_file(folder, LABELS, load_labels)
        if self.index.d != LENGTH or self.index.ntotal != len(self.labels):
            raise ModelError(
                f"{INDEX} in {folder} has {self.index.ntotal} vectors of length {self.index.d}, "
                f"and {LABELS} {len(self.labels)} labels for vectors of length {LENGTH}: "
                "train.py writes files that belong together"
            )

    def infer(self, image, count):
        """Return the distances to the `count` nearest digits, and the label of the nearest.

        `image` has light ink on a dark background, as uint8, height x width.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None] / 255
        with torch.inference_mode():
            vectors = self.network(functional.adaptive_avg_pool2d(pixels, SIZE))
        distances, places = self.index.search(vectors.numpy(), min(count, len(self.labels)))
        return distances[0].tolist(), self.labels[places[0, 0]]


def read_file(folder, name, load):
    """Return what `load` reads from a file of the model."""
    path = os.path.join(folder, name)
    try:
        return load(path)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, EOFError) as problem:
        reason = str(problem).strip().splitlines()[-1:] or [type(problem).__name__]
    except pickle.UnpicklingError:
        reason = ["it is not a file of torch.save with tensors only"]
    raise ModelError(f"{path} cannot be read: {reason[0]}. train.py writes {name}")


def load_network(path):
    network = Embedding()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def load_labels(path):
    with open(path, encoding="utf-8") as file:
        labels = json.load(file)
    if not isinstance(labels, list):
        raise TypeError("it is not a list with the label of each vector")
    return labels
