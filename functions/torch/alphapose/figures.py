"""Scenes with stick figures that face the viewer, drawn by a seeded generator."""

import cv2
import numpy as np

# Below these, coordinates are parts of the figure's height; x grows towards the figure's left.
SHOULDER, HIP = (0.11, 0.21), (0.075, 0.52)
ARM, LEG = (0.16, 0.15), (0.23, 0.22)
HEAD, RADIUS = (0.0, 0.09), 0.075
# The places of nose, eyes and ears relative to the head.
FACE = ((0, 0.015), (0.03, -0.015), (-0.03, -0.015), (0.072, 0), (-0.072, 0))
LEFT, RIGHT = (5, 7, 9, 11, 13, 15), (6, 8, 10, 12, 14, 16)


def figure(random, width, height):
    """Return the 17 keypoints (x, y in pixels) of a figure somewhere in the picture."""
    joints = np.zeros((17, 2))
    joints[:5] = np.add(HEAD, FACE)
    joints[:5, 0] += random.uniform(-0.02, 0.02)
    for side, sign in ((LEFT, 1), (RIGHT, -1)):
        joints[list(side[::3])] = np.array([SHOULDER, HIP]) * (sign, 1)
        for start, lengths, turns in (
            (0, ARM, ((-0.1, 2.6), (-0.3, 1.5))),
            (3, LEG, ((-0.1, 0.7), (-0.6, 0.3))),
        ):
            angle = 0.0
            for i, (length, (low, high)) in enumerate(zip(lengths, turns, strict=True), start):
                angle += random.uniform(low, high)
                step = np.array([np.sin(angle) * sign, np.cos(angle)]) * length
                joints[side[i + 1]] = joints[side[i]] + step
    lean = random.uniform(-0.25, 0.25)
    joints = joints @ [[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]]
    joints *= random.uniform(0.4, 0.8) * height
    low, high = joints.min(0), joints.max(0)
    edge = 0.12 * (high[1] - low[1])
    room = np.maximum(np.array([width, height]) - (high - low) - 2 * edge, 0)
    return joints - low + edge + random.random(2) * room


def box_of(joints):
    """Return left, top, right and bottom of a figure with its head and limbs."""
    unit = np.ptp(joints[:, 1])
    head = np.array([joints[:5].mean(0) - 0.09 * unit, joints[:5].mean(0) + 0.09 * unit])
    points = np.concatenate([joints, head])
    return np.concatenate([points.min(0) - 0.02 * unit, points.max(0) + 0.02 * unit])


def draw(random, image, joints):
    """Draw a figure; its left limbs are bluish, its right ones reddish."""
    unit = np.ptp(joints[:, 1])
    thick = max(2, round(unit * 0.035))
    points = [(round(x * 8), round(y * 8)) for x, y in joints.tolist()]
    shirt = random.uniform(30, 220, 3).tolist()
    torso = np.array([points[i] for i in (5, 6, 12, 11)], np.int32)
    cv2.fillPoly(image, [torso], shirt, cv2.LINE_AA, 3)
    for side, strong in ((LEFT, 2), (RIGHT, 0)):
        colour = random.uniform(0, 110, 3)
        colour[strong] = random.uniform(190, 255)
        for i, j in ((0, 1), (1, 2), (3, 4), (4, 5)):
            ends = points[side[i]], points[side[j]]
            cv2.line(image, *ends, colour.tolist(), thick, cv2.LINE_AA, 3)
    skin = (random.uniform(0.5, 1) * np.array([240, 200, 160])).tolist()
    middle = joints[:5].mean(0)
    centre = (round(middle[0] * 8), round(middle[1] * 8))
    cv2.circle(image, centre, round(unit * RADIUS * 8), skin, -1, cv2.LINE_AA, 3)
    for i, colour in enumerate(((120, 60, 40), *[(20, 20, 20)] * 2, *[(90, 40, 30)] * 2)):
        cv2.circle(image, points[i], max(10, round(unit * 0.09)), colour, -1, cv2.LINE_AA, 3)


def scene(random, width, height, most=4):
    """Return an RGB image and the keypoints of its figures, which hardly overlap."""
    image = np.zeros((height, width, 3), np.float32) + random.uniform(40, 215, 3)
    for cells in (3, 9, 40):
        noise = (
            random.standard_normal((cells, cells, 1))
            + random.standard_normal((cells, cells, 3)) / 3
        )
        image += (
            cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
            * 12
        )
    image = image.clip(0, 255).astype(np.uint8)
    figures = []
    for _ in range(random.integers(1, most + 1)):
        joints = figure(random, width, height)
        box = box_of(joints)
        if all(apart(box, box_of(other)) for other in figures):
            draw(random, image, joints)
            figures.append(joints)
    noise = random.standard_normal(image.shape, np.float32) * random.uniform(0, 10)
    return (image + noise).clip(0, 255).astype(np.uint8), figures


def apart(box, other):
    shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return np.prod(shared.clip(0)) < 0.1 * np.prod(box[2:] - box[:2])
