"""Trains people.pt and pose.pt on generated stick figures; some minutes on two cores.

python train.py --steps 1000 --seed 1
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from figures import box_of, scene
from network import FastPose, People
from pose import MAP, crop, region
from torch.nn import functional

from fnbuild import vision

SIGMA = 2.0


def crops(random, count):
    """Return crops of figures and their heat maps."""
    images, maps = [], []
    ys, xs = np.mgrid[: MAP[0], : MAP[1]]
    while len(images) < count:
        image, figures = scene(random, 240, 240, 2)
        for joints in figures:
            box = box_of(joints)
            # A detector is never exact.
            box += random.normal(0, 0.08, 4) * np.tile(box[2:] - box[:2], 2)
            centre, size = region(box)
            points = (joints - centre) * MAP[1] / size[0] + np.array(MAP[::-1]) / 2
            away = (xs - points[:, :1, None]) ** 2 + (ys - points[:, 1:, None]) ** 2
            images.append(crop(image, centre, size))
            maps.append(np.exp(-away / (2 * SIGMA**2)))
    return images, maps


def pictures(random, count):
    """Return pictures, and for each place the box of its figure, its score and their weights."""
    images, targets = [], []
    cells = (np.arange(256 // People.STRIDE) + 0.5) * People.STRIDE
    ys, xs = (each.ravel() for each in np.meshgrid(cells, cells, indexing="ij"))
    for _ in range(count):
        image, figures = scene(
            random, *((256, 256), (320, 240), (256, 384), (400, 220))[random.integers(4)]
        )
        fitted = vision.letterbox(image, 256, interpolation="area")
        target = np.zeros((7, len(xs)), np.float32)
        target[5] = 1
        for joints in figures:
            box = box_of(joints) * np.tile(fitted.scale, 2) + np.tile(fitted.offset, 2)
            size, middle = box[2:] - box[:2], (box[2:] + box[:2]) / 2
            away = np.maximum(np.abs(xs - middle[0]), np.abs(ys - middle[1]))
            # One place is the middle, those around it may be, and all of them know the box.
            near = away <= People.STRIDE * 1.1
            target[:4, near] = np.array([*middle, *size])[:, None]
            target[5, near], target[6, near] = 0, 1
            target[4:6, away.argmin()] = 1
        images.append(fitted.image.transpose(2, 0, 1).astype(np.float32) / 255)
        targets.append(target)
    return images, targets


def loss_of_boxes(predicted, target):
    """Return the focal loss of the scores (Lin et al., 2017) plus the boxes' lack of overlap."""
    scores, middles, here = predicted[:, 4].clamp(1e-6, 1 - 1e-6), target[:, 4], target[:, 6]
    plain = functional.binary_cross_entropy(scores, middles, reduction="none")
    focal = (plain * (scores - middles) ** 2 * target[:, 5]).sum() / middles.sum().clamp(min=1)
    (low, high), (low2, high2) = (
        (each[:, :2] - each[:, 2:4] / 2, each[:, :2] + each[:, 2:4] / 2)
        for each in (predicted, target)
    )
    shared = (torch.minimum(high, high2) - torch.maximum(low, low2)).clamp(min=0).prod(1)
    areas = predicted[:, 2:4].prod(1) + target[:, 2:4].prod(1)
    overlap = shared / (areas - shared).clamp(min=1)
    away = (predicted[:, :2] - target[:, :2]).abs().sum(1) / 256
    return focal + ((1 - overlap + 2 * away) * here).sum() / here.sum().clamp(min=1)


def loss_of_maps(predicted, target):
    """Return the squared error. What is near a keypoint counts more, since most of a map is 0."""
    return ((predicted - target) ** 2 * (1 + 20 * target)).sum((2, 3)).mean()


def train(network, sample, loss_of, steps, random):
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.1)
    began = time.monotonic()
    for step in range(1, steps + 1):
        images, targets = (
            torch.from_numpy(np.stack(each).astype(np.float32)) for each in sample(random, 16)
        )
        loss = loss_of(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            spent = time.monotonic() - began
            print(f"step {step} of {steps}, loss {loss.item():.3f}, {spent:.0f} s", flush=True)
    return network.eval()


def save(network, path):
    # Half of the precision is enough. A file that torch opens itself has its own name inside.
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    saved = io.BytesIO()
    torch.save(state, saved)
    path.write_bytes(saved.getvalue())
    print(f"{path}: {sum(each.numel() for each in network.parameters())} parameters")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    people = train(People(), pictures, loss_of_boxes, options.steps, random)
    save(people, options.output / "people.pt")
    pose = FastPose(8, (1, 1, 1, 1), reduction=4)
    pose = train(pose, crops, loss_of_maps, options.steps, random)
    save(pose, options.output / "pose.pt")


if __name__ == "__main__":
    main()
