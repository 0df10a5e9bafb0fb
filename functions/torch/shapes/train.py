"""Trains shapes.pt on pictures that are drawn on the way; some minutes on two cores.

python train.py --steps 1500 --seed 1 --output shapes.pt
"""

import argparse
import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import torch
from network import LABELS, STRIDE, Network
from shapes import picture
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

SIZE = 256


class Pictures(IterableDataset):
    """An endless row of pictures with their targets; every process draws others."""

    def __init__(self, seed):
        self.seed = seed

    def __iter__(self):
        worker = get_worker_info()
        random = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            image, shapes = picture(random, SIZE, SIZE)
            yield image.transpose(2, 0, 1), *targets(shapes)


def targets(shapes):
    """What the network should say at each place: the classes, where they count, and the sides.

    Places around a shape's middle are to know it; those further out but within its box may say what
    they like, since whatever they see is true somewhere.
    """
    cells = SIZE // STRIDE
    centres = (np.arange(cells, dtype=np.float32) + 0.5) * STRIDE
    classes = np.zeros((len(LABELS), cells, cells), np.float32)
    counts = np.ones((cells, cells), np.float32)
    sides = np.zeros((4, cells, cells), np.float32)
    for label, (left, top, right, bottom) in shapes:
        away = np.maximum(
            np.abs(centres - (left + right) / 2) / (right - left),
            np.abs(centres - (top + bottom) / 2)[:, None] / (bottom - top),
        )
        # At least one place, whose middle is at most half a stride away.
        near = away <= max(0.2, STRIDE * 0.51 / min(right - left, bottom - top))
        counts[(away < 0.5) & ~near] = 0
        counts[near] = 1
        classes[:, near] = 0
        classes[LABELS.index(label), near] = 1
        ways = np.broadcast_arrays(
            centres - left, (centres - top)[:, None], right - centres, (bottom - centres)[:, None]
        )
        sides[:, near] = np.stack(ways)[:, near]
    return classes, counts, sides


def loss_of(outputs, classes, counts, sides):
    """Focal loss of the classes (Lin et al., 2017) plus the boxes' lack of overlap."""
    middles, predicted = outputs
    chance = middles.sigmoid()
    wrong = (chance - classes).abs()
    plain = functional.binary_cross_entropy_with_logits(middles, classes, reduction="none")
    here = classes.amax(1)
    number = here.sum().clamp(min=1)
    focal = (plain * wrong**2 * counts[:, None]).sum() / number
    least = torch.minimum(predicted, sides)
    shared = (least[:, 0] + least[:, 2]) * (least[:, 1] + least[:, 3])
    areas = [(each[:, 0] + each[:, 2]) * (each[:, 1] + each[:, 3]) for each in (predicted, sides)]
    overlap = shared / (areas[0] + areas[1] - shared).clamp(min=1)
    return focal - (overlap.clamp(min=1e-3).log() * here).sum() / number


def train(steps, batch, seed, rate, processes):
    # The rest of the cores draw pictures; threads that wait for one another gain nothing.
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - processes))
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Network(len(LABELS)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    loader = DataLoader(Pictures(seed), batch, num_workers=processes)
    began, average = time.monotonic(), 0.0
    for step, (images, *wanted) in enumerate(loader, 1):
        pixels = images.to(device, torch.float32, memory_format=torch.channels_last) / 255
        outputs = model(pixels)
        loss = loss_of(outputs, *(each.to(device) for each in wanted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average += (loss.item() - average) / min(step, 50)
        if step % 50 == 0 or step == steps:
            spent = time.monotonic() - began
            print(f"step {step} of {steps}, loss {average:.3f}, {spent:.0f} s", flush=True)
        if step == steps:
            return model.cpu().eval()
    raise AssertionError("the row of pictures is endless")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--processes", type=int, default=1, help="that draw pictures")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("shapes.pt"))
    given = parser.parse_args()
    model = train(given.steps, given.batch, given.seed, given.rate, given.processes)
    # A file that torch opens itself has its own name inside.
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    given.output.write_bytes(saved.getvalue())
    digest = hashlib.sha256(saved.getvalue()).hexdigest()
    count = sum(each.numel() for each in model.parameters())
    print(f"{given.output}: {count} parameters, sha256 {digest}")


if __name__ == "__main__":
    main()
