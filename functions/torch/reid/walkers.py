"""Street scenes with people in clothes of their own, frame after frame, drawn with a seed."""

import cv2
import numpy as np


class Walker:
    """A person: clothes that stay the same, and a place that changes with each frame."""

    def __init__(self, random):
        self.colours = random.uniform(0, 255, (5, 3))
        self.kind = int(random.integers(4))
        self.period = int(random.integers(3, 7))
        self.belt = random.uniform(0.42, 0.6)

    def draw(self, random, width, height):
        """Return the person on a transparent ground: RGB and cover, height x width."""
        image = np.zeros((96, 48, 3), np.float32)
        cover = np.zeros((96, 48), np.float32)
        shirt, trousers, extra, hair, skin = self.colours
        belt = int(self.belt * 96)
        ys, xs = np.mgrid[:96, :48]
        stripes = ((ys, xs, ys + xs, ys * 0)[self.kind] // self.period) % 2
        image[:belt] = np.where(stripes[:belt, :, None] == 1, extra, shirt)
        image[belt:] = trousers
        swing = int(random.integers(0, 7))
        cv2.rectangle(cover, (10, 18), (37, belt), 1, -1)
        for foot, hip in ((12 - swing, 17), (35 + swing, 30)):
            cv2.line(cover, (hip, belt), (foot, 94), 1, 11)
        for hand, shoulder in ((5 - swing // 2, 12), (42 + swing // 2, 35)):
            cv2.line(cover, (shoulder, 22), (hand, belt), 1, 6)
        cv2.circle(cover, (24, 10), 9, 1, -1)
        cv2.circle(image, (24, 10), 9, (skin * 0.4 + (140, 110, 90)).tolist(), -1)
        cv2.ellipse(image, (24, 8), (9, 7), 0, 180, 360, hair.tolist(), -1)
        size = (max(2, width), max(2, height))
        return cv2.resize(image, size), cv2.resize(cover, size)


def ground(random, width, height):
    coarse = random.uniform(30, 220, 3) + random.standard_normal((8, 8, 3)) * 25
    return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def frame(random, walkers, places, width, height):
    """Return an RGB image and the boxes of walkers whose feet are at places (x, y, height)."""
    image = ground(random, width, height)
    boxes = []
    for walker, (x, y, tall) in zip(walkers, places, strict=True):
        across = round(tall / 2)
        left, top = round(x - across / 2), round(y - tall)
        pixels, cover = walker.draw(random, across, round(tall))
        low, high = max(0, -left), min(across, width - left)
        upper, lower = max(0, -top), min(round(tall), height - top)
        part = image[top + upper : top + lower, left + low : left + high]
        alpha = cover[upper:lower, low:high, None]
        part[:] = part * (1 - alpha) + pixels[upper:lower, low:high] * alpha
        boxes.append((left + low, top + upper, left + high, top + lower))
    image = image * random.uniform(0.75, 1.2) + random.uniform(-15, 15)
    image += random.standard_normal(image.shape) * random.uniform(0, 8)
    return image.clip(0, 255).astype(np.uint8), boxes
