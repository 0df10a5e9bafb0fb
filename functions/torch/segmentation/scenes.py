"""Pictures of a road between trees and houses with the class of each pixel, drawn with a seed."""

import cv2
import numpy as np

GRASS, SKY, ROAD, TREE, BUILDING = range(5)


def scene(random, width, height):
    """Return an RGB image and its classes, height x width."""
    horizon = round(height * random.uniform(0.3, 0.6))
    classes = np.full((height, width), GRASS, np.uint8)
    classes[:horizon] = SKY
    image = np.zeros((height, width, 3), np.float32)
    image[:] = (random.uniform(70, 130), random.uniform(130, 190), random.uniform(40, 90))
    light = np.linspace(0, 1, horizon)[:, None, None]
    image[:horizon] = (1 - light) * (random.uniform(60, 120), 140, 220) + light * (200, 215, 240)
    for _ in range(random.integers(0, 4)):
        centre = int(random.integers(width)), int(random.integers(max(1, horizon)))
        axes = int(random.integers(8, 40)), int(random.integers(4, 12))
        sky = image[:horizon].copy()
        cv2.ellipse(sky, centre, axes, 0, 0, 360, (245, 245, 250), -1)
        image[:horizon] = sky
    if random.random() < 0.8:
        paint_road(random, image, classes, horizon)
    feet = sorted(random.uniform(horizon, height, random.integers(2, 8)))
    for foot in feet:
        (paint_tree if random.random() < 0.6 else paint_building)(random, image, classes, foot)
    for cells in (12, 60):
        noise = random.standard_normal((cells, cells, 1), np.float32) * random.uniform(4, 14)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]
    image *= random.uniform(0.7, 1.15)
    image += random.standard_normal(image.shape, np.float32) * random.uniform(0, 8)
    return image.clip(0, 255).astype(np.uint8), classes


def paint(image, classes, kind, colour, draw):
    mask = np.zeros(classes.shape, np.uint8)
    draw(mask)
    image[mask > 0] = colour
    classes[mask > 0] = kind


def paint_road(random, image, classes, horizon):
    height, width = classes.shape
    end, start = random.uniform(0.2, 0.8, 2) * width
    near, far = random.uniform(0.15, 0.3) * width, random.uniform(1, 6)
    corners = [(end - far, horizon), (end + far, horizon), (start + near, height),
               (start - near, height)]  # fmt: skip
    grey = random.uniform(70, 130)
    outline = np.array(corners, np.int32)
    paint(image, classes, ROAD, (grey, grey, grey + 8), lambda m: cv2.fillPoly(m, [outline], 1))
    for part in np.arange(0.1, 1, 0.2):
        ends = [np.array([end + (start - end) * p, horizon + (height - horizon) * p])
                for p in (part, part + 0.07)]  # fmt: skip
        first, last = (tuple(each.astype(int).tolist()) for each in ends)
        cv2.line(image, first, last, (235, 235, 225), max(1, int(4 * part)))


def paint_tree(random, image, classes, foot):
    height, width = classes.shape
    size = height * random.uniform(0.12, 0.28)
    x, top = random.uniform(0, width), foot - size * 1.4
    trunk = [int(x - size * 0.07), int(foot - size * 0.6), int(x + size * 0.07), int(foot)]
    paint(
        image, classes, TREE, (95, 65, 40), lambda m: cv2.rectangle(m, trunk[:2], trunk[2:], 1, -1)
    )
    colour = (random.uniform(15, 60), random.uniform(70, 110), random.uniform(15, 50))
    for _ in range(6):
        place = random.normal((x, top + size * 0.5), size * 0.16).astype(int).tolist()
        radius = int(size * random.uniform(0.25, 0.4))
        shade = np.array(colour) * random.uniform(0.8, 1.15)
        paint(image, classes, TREE, shade,
              lambda m, p=place, r=radius: cv2.circle(m, p, r, 1, -1))  # fmt: skip


def paint_building(random, image, classes, foot):
    height, width = classes.shape
    across, up = random.uniform(0.12, 0.3) * width, random.uniform(0.15, 0.4) * height
    left = random.uniform(-0.05, 0.95) * width
    box = [int(left), int(foot - up), int(left + across), int(foot)]
    wall = random.uniform(110, 230, 3) * (1, 0.85, 0.75)
    paint(image, classes, BUILDING, wall, lambda m: cv2.rectangle(m, box[:2], box[2:], 1, -1))
    roof = np.array([(box[0] - 3, box[1]), (box[2] + 3, box[1]),
                     ((box[0] + box[2]) // 2, box[1] - int(up * 0.3))])  # fmt: skip
    red = (random.uniform(120, 180), random.uniform(40, 70), random.uniform(30, 60))
    paint(image, classes, BUILDING, red, lambda m: cv2.fillPoly(m, [roof], 1))
    step = max(6, int(across / 4))
    for x in range(box[0] + step // 2, box[2] - step // 2, step):
        for y in range(box[1] + step // 2, box[3] - step // 2, step):
            cv2.rectangle(image, (x, y), (x + step // 3, y + step // 3), (60, 70, 90), -1)
