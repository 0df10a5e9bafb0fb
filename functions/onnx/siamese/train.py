"""Trains template.onnx and search.onnx on generated objects; needs torch and onnx.

python train.py --steps 400 --seed 1
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tracker import context, measure, square

SMALL, LARGE = 64, 128
# Values of the response this near to the object's place are right.
RADIUS = 1.5
BATCH = 16


class Features(nn.Module):
    """Features of each place. Nothing is padded: they are the same wherever the object is."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *self.layer(3, 16, 5, 2),
            *self.layer(16, 24, 3, 2),
            *self.layer(24, 32, 3, 1),
            nn.Conv2d(32, 32, 3),
            nn.BatchNorm2d(32),
        )

    @staticmethod
    def layer(inputs, outputs, size, stride):
        convolution = nn.Conv2d(inputs, outputs, size, stride, bias=False)
        return convolution, nn.BatchNorm2d(outputs), nn.ReLU()

    def forward(self, pictures):
        return self.layers(pictures - 0.5)


class Search(nn.Module):
    """The response of pictures (N) to the features of one template."""

    def __init__(self, features):
        super().__init__()
        self.features = features
        self.scale = nn.Parameter(torch.tensor(1e-3))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, pictures, template):
        return functional.conv2d(self.features(pictures), template) * self.scale + self.bias


def texture(random, width, height):
    """Return colours that change over some scales."""
    image = np.zeros((height, width, 3), np.float32) + random.uniform(30, 220, 3)
    for cells in (2, 4, 9):
        coarse = random.standard_normal((cells, cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 40
    return image.clip(0, 255)


def paste(image, part, cover, box):
    left, top, right, bottom = (round(value) for value in box)
    part = cv2.resize(part, (right - left, bottom - top))
    cover = cv2.resize(cover, (right - left, bottom - top))[:, :, None]
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if x1 > x0 and y1 > y0:
        inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        below = image[y0:y1, x0:x1]
        image[y0:y1, x0:x1] = below * (1 - cover[inner]) + part[inner] * cover[inner]


def pair(random):
    """Return the box of an object in a frame, that frame, the next one, and the new box."""
    grounds = texture(random, 320, 240)
    things = []
    for _ in range(random.integers(1, 5)):
        cover = np.zeros((64, 64), np.float32)
        corners = np.arange(random.integers(3, 9))
        angles = random.uniform(0, 7) + corners * 2 * np.pi / len(corners)
        radii = random.uniform(24, 32, len(corners))
        outline = 32 + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        cv2.fillPoly(cover, [outline.astype(np.int32)], 1)
        things.append((texture(random, 64, 64), cover))
    size = random.uniform(25, 90, 2)
    first = random.uniform(60, 160, 2)
    frames, boxes = [], []
    # The last thing is the object; it is in front of the others.
    others = [(random.uniform(0, 220, 2), random.uniform(30, 80, 2)) for _ in things[1:]]
    reach = context(size) * 0.35
    for number in range(2):
        image = np.roll(grounds, random.integers(-6, 7, 2), (0, 1)).copy()
        for thing, (place, extent) in zip(things[1:], others, strict=True):
            corner = place + random.uniform(-15, 15, 2)
            paste(image, *thing, [*corner, *(corner + extent)])
        place = first + number * random.uniform(-reach, reach, 2)
        grown = size * (random.uniform(0.92, 1.08) if number else 1)
        boxes.append(np.concatenate([place, place + grown]))
        paste(image, *things[0], boxes[-1])
        image = image * random.uniform(0.85, 1.15)
        image += random.standard_normal(image.shape) * random.uniform(0, 8)
        frames.append(image.clip(0, 255).astype(np.uint8))
    return frames, boxes


def sample(random, step):
    """Return templates, pictures to search, and the response that is wanted, with weights."""
    templates, pictures, wanted = [], [], []
    count = (LARGE - SMALL) // step + 1
    ys, xs = (np.mgrid[:count, :count] - (count - 1) / 2) * step
    for _ in range(BATCH):
        (before, after), (box, next_box) = pair(random)
        centre, size = measure(box)
        side = context(size)
        templates.append(square(before, centre, side, SMALL))
        large = side * LARGE / SMALL
        pictures.append(square(after, centre, large, LARGE))
        away = (measure(next_box)[0] - centre) * LARGE / large
        right = np.hypot(xs - away[0], ys - away[1]) <= RADIUS * step
        wanted.append(np.stack([right, np.where(right, 0.5 / max(right.sum(), 1),
                                                0.5 / (~right).sum())]))  # fmt: skip
    return [torch.from_numpy(np.stack(each).astype(np.float32))
            for each in (templates, pictures, wanted)]  # fmt: skip


def train(steps, random):
    network = Search(Features())
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.1)
    began = time.monotonic()
    for step in range(1, steps + 1):
        templates, pictures, wanted = sample(random, 4)
        # Each picture with its own template: groups of one convolution.
        features, kernels = network.features(pictures), network.features(templates)
        joined = functional.conv2d(features.flatten(0, 1)[None], kernels, groups=BATCH)
        response = joined[0] * network.scale + network.bias
        losses = functional.binary_cross_entropy_with_logits(
            response, wanted[:, 0], reduction="none"
        )
        loss = (losses * wanted[:, 1]).sum() / BATCH
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
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    network = train(options.steps, np.random.default_rng(options.seed))
    template = torch.zeros(1, 3, SMALL, SMALL)
    export(network.features, (template,), options.output / "template.onnx", ["picture"])
    inputs = torch.zeros(2, 3, LARGE, LARGE), network.features(template)
    export(network, inputs, options.output / "search.onnx", ["pictures", "template"])


def export(network, inputs, path, names):
    torch.onnx.export(
        network,
        inputs,
        str(path),
        dynamo=False,
        opset_version=13,
        input_names=names,
        output_names=["output"],
        dynamic_axes={names[0]: {0: "count"}},
    )
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
