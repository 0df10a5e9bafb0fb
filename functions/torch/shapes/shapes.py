"""Pictures of circles, squares and triangles on textured ground, drawn by a seeded generator."""

import cv2
import numpy as np
from network import LABELS

# Coordinates are drawn with this many binary places below the pixel.
_PLACES = 4
# Diameters as parts of the image's longer side.
_SMALLEST, _LARGEST = 0.12, 0.42
_MOST_SHAPES = 7
# In steps of 255, the least difference between a shape's colour and the ground below it.
_CONTRAST = 45


def picture(random, width, height):
    """An RGB image and its shapes as (label, (left, top, right, bottom)).

    `random` is a numpy Generator: equal seeds give equal pictures. No two boxes overlap by more
    than a sliver, and all lie inside the image.
    """
    image = _ground(random, width, height)
    _draw_lines(random, image)
    boxes, objects = [], []
    for _ in range(random.integers(1, _MOST_SHAPES + 1)):
        label = LABELS[random.integers(len(LABELS))]
        outline = _outline(random, label, width, height)
        box = (*outline.min(0), *outline.max(0))
        if box[0] < 1 or box[1] < 1 or box[2] > width - 2 or box[3] > height - 2:
            continue
        if any(_overlap(box, other) > 0.02 for other in boxes):
            continue
        boxes.append(box)
        _fill(random, image, outline)
        objects.append((label, tuple(float(value) for value in box)))
    return _spoil(random, image), objects


def _ground(random, width, height):
    """Two colours mixed by smooth noise of several scales, and now and then by stripes."""
    mix = np.zeros((height, width), np.float32)
    for cells in (2, 5, 16, 60):
        coarse = random.random((cells, cells), np.float32)
        mix += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.4
    if random.random() < 0.3:
        angle, period = random.uniform(0, np.pi), random.uniform(6, 40)
        ys, xs = np.mgrid[:height, :width].astype(np.float32)
        mix += 0.4 * np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * 2 * np.pi / period)
    mix = np.clip((mix - mix.min()) / (np.ptp(mix) + 1e-6), 0, 1)[:, :, None]
    middle = random.uniform(20, 235, 3)
    spread = random.uniform(-60, 60, 3)
    return np.clip(middle + (mix - 0.5) * 2 * spread, 0, 255).astype(np.float32)


def _draw_lines(random, image):
    """Thin lines, which are no shape and must not be taken for one."""
    height, width = image.shape[:2]
    for _ in range(random.integers(0, 4)):
        ends = [(int(random.integers(width)), int(random.integers(height))) for _ in range(2)]
        colour = random.uniform(0, 255, 3).tolist()
        cv2.line(image, ends[0], ends[1], colour, int(random.integers(1, 3)), cv2.LINE_AA)


def _outline(random, label, width, height):
    """The corners of a shape of random size, place and turn, in pixels."""
    radius = random.uniform(_SMALLEST, _LARGEST) * max(width, height) / 2
    corners = {"circle": 72, "square": 4, "triangle": 3}[label]
    angles = random.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    if label == "triangle":
        angles = angles + random.uniform(-0.25, 0.25, corners)
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius
    room = np.array([width, height]) - 2 * radius
    return outline + radius + random.random(2) * np.maximum(room, 0)


def _fill(random, image, outline):
    """Paint the shape in a colour that stands out, sometimes with a border or a gradient."""
    left, top = np.maximum(outline.min(0).astype(int) - 2, 0)
    right, bottom = outline.max(0).astype(int) + 4
    part = image[top:bottom, left:right]
    fixed = np.round((outline - (left, top)) * 2**_PLACES).astype(np.int32)
    cover = np.zeros(part.shape[:2], np.float32)
    cv2.fillPoly(cover, [fixed], 1.0, cv2.LINE_8, _PLACES)
    below = part.mean((0, 1))
    colour = below
    while np.abs(colour - below).mean() < _CONTRAST:
        colour = random.uniform(0, 255, 3)
    slope = random.uniform(-20, 20) * np.linspace(-1, 1, part.shape[1], dtype=np.float32)
    paint = colour.astype(np.float32) + slope[None, :, None]
    soft = cv2.GaussianBlur(cover, (3, 3), 0)[:, :, None]
    part[:] = part * (1 - soft) + paint * soft
    if random.random() < 0.3:
        edge = np.ascontiguousarray(part)
        cv2.polylines(edge, [fixed], True, (colour * 0.5).tolist(), 1, cv2.LINE_AA, _PLACES)
        part[:] = edge


def _spoil(random, image):
    """Blur and noise, as a camera adds them."""
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 1.2))
    noise = random.standard_normal(image.shape, np.float32) * random.uniform(0, 14)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _overlap(one, other):
    """Shared area by joined area of two boxes."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, across) * max(0.0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
