"""Trains segmentation.pt on generated scenes; a few minutes on two cores.

python train.py --steps 350 --seed 1
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from network import Network
from scenes import scene
from segments import prepare
from torch.nn import functional

CLASSES = 5
SIZE = 192


def train(steps, random):
    network = Network(CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.1)
    began = time.monotonic()
    for step in range(1, steps + 1):
        pictures = [scene(random, SIZE, SIZE) for _ in range(12)]
        images = np.stack([prepare(image, SIZE)[0] for image, _ in pictures])
        classes = np.stack([each for _, each in pictures]).astype(np.int64)
        logits = network(torch.from_numpy(images))
        loss = functional.cross_entropy(logits, torch.from_numpy(classes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            spent = time.monotonic() - began
            print(f"step {step} of {steps}, loss {loss.item():.3f}, {spent:.0f} s", flush=True)
    return network.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("segmentation.pt"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    network = train(options.steps, np.random.default_rng(options.seed))
    # Half of the precision is enough. A file that torch opens itself has its own name inside.
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    saved = io.BytesIO()
    torch.save(state, saved)
    options.output.write_bytes(saved.getvalue())
    count = sum(each.numel() for each in network.parameters())
    print(f"{options.output}: {count} parameters")


if __name__ == "__main__":
    main()
