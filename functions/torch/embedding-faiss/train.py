"""Trains the network on the digits of scikit-learn, and writes the index of their vectors."""

import argparse
import io
import json
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from model_handler import INDEX, LABELS, MODEL
from network import LENGTH, SIZE, Embedding
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

# Every fifth digit is kept from the training: `unseen` returns them.
FOLD = 5
SAMPLE = "digit.png"
SAMPLE_SCALE = 16
# Of the cosines in the loss (CosFace, Wang et al., 2018).
SCALE, MARGIN = 16.0, 0.2


def digits():
    """Return the digits (N, 8, 8) from 0 to 1, and their labels."""
    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target


def seen():
    """Return the digits of the training and of the index, with their labels."""
    images, labels = digits()
    chosen = np.arange(len(labels)) % FOLD != 0
    return images[chosen], labels[chosen]


def unseen():
    """Return the other digits with their labels."""
    images, labels = digits()
    return images[::FOLD], labels[::FOLD]


def picture(digit):
    """Return a digit as an image that is large enough to be looked at."""
    pixels = np.round(digit * 255).astype(np.uint8)
    side = SIZE * SAMPLE_SCALE
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def train(epochs, seed, rate=3e-3, batch=64):
    """Return the network, whose vectors have the same direction for digits of one kind."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    images, labels = (torch.from_numpy(array) for array in seen())
    network = Embedding()
    directions = torch.nn.Parameter(torch.randn(int(labels.max()) + 1, LENGTH))
    optimizer = torch.optim.AdamW([*network.parameters(), directions], rate)
    began = time.monotonic()
    for epoch in range(1, epochs + 1):
        for chosen in torch.randperm(len(labels)).split(batch):
            wanted = functional.one_hot(labels[chosen], len(directions))
            cosines = network(images[chosen][:, None]) @ functional.normalize(directions).T
            loss = functional.cross_entropy(SCALE * (cosines - MARGIN * wanted), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 0 or epoch == epochs:
            seconds = time.monotonic() - began
            print(f"epoch {epoch} of {epochs}, loss {loss:.3f}, {seconds:.0f} s", flush=True)
    return network.eval()


def write(network, folder):
    """Write the network, the index of the seen digits, their labels, and one unseen digit."""
    images, labels = seen()
    with torch.inference_mode():
        vectors = network(torch.from_numpy(images)[:, None]).numpy()
    index = faiss.IndexFlatL2(LENGTH)
    index.add(vectors)
    folder.mkdir(parents=True, exist_ok=True)
    # A file that torch opens itself has its own name inside.
    saved = io.BytesIO()
    torch.save(network.state_dict(), saved)
    (folder / MODEL).write_bytes(saved.getvalue())
    faiss.write_index(index, str(folder / INDEX))
    (folder / LABELS).write_text(json.dumps(labels.tolist()) + "\n")
    images, labels = unseen()
    picture(images[labels == 3][0]).save(folder / SAMPLE)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    write(train(options.epochs, options.seed), options.output)
    print(f"{options.output} has {MODEL}, {INDEX}, {LABELS} and {SAMPLE}")


if __name__ == "__main__":
    main()
