"""Trains reid.pt: pictures of the same person are to have like vectors; a minute on two cores.

python train.py --steps 300 --seed 1
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from embedding import cut
from network import SIZE, Network
from torch.nn import functional
from walkers import Walker, frame

PEOPLE = 48
TEMPERATURE = 0.1


def pictures(random):
    """Return two pictures of each of many people, from two frames."""
    walkers = [Walker(random) for _ in range(PEOPLE)]
    views = []
    for _ in range(2):
        view = []
        for walker in walkers:
            tall = random.uniform(40, 110)
            image, ((left, top, right, bottom),) = frame(
                random, [walker], [(64 + random.normal(0, 3), 124, tall)], 128, 128
            )
            shift = random.normal(0, 0.05, 4) * np.tile((right - left, bottom - top), 2)
            view.append(cut(image, np.add((left, top, right, bottom), shift), SIZE))
        views.append(torch.from_numpy(np.stack(view)))
    return views


def train(steps, random):
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    began = time.monotonic()
    for step in range(1, steps + 1):
        first, second = network(torch.cat(pictures(random))).chunk(2)
        likeness = first @ second.T / TEMPERATURE
        same = torch.arange(PEOPLE)
        loss = functional.cross_entropy(likeness, same) + functional.cross_entropy(likeness.T, same)
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
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("reid.pt"))
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
