"""An interactor: an image and clicks in, a mask out. Put your model into `load` and `predict`."""

import os

import cv2
import numpy as np

from fnbuild import vision

# GrabCut's time grows with the pixels; the mask is enlarged afterwards.
LONGEST_SIDE = 400


class Interactor(vision.Interactor):
    mode = "BGR"  # or "RGB", "L"

    def load(self, context):
        # Load your model here: this runs once in each worker.
        if os.environ.get("MASK_FORMAT") == "rows":
            self.reply_format = "mask"  # for CVAT before 2.60

    def predict(self, image, prompt):
        # Return (mask, score) if your model has one: CVAT filters by it.
        return segment(image, prompt.positive, prompt.negative, prompt.box)


def segment(image, positive, negative, box):
    """A mask of the image's size, 1 where the object is, found by GrabCut.

    Points are (x, y) and the box is (left, top, right, bottom) or None, in pixels of the image.
    """
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    small = vision.resize(image, (round(width * scale), round(height * scale)), "area")
    marks = guess(small.shape[:2], scale, positive, box)
    reach = max(2, min(small.shape[:2]) // 60)
    for value, points in ((cv2.GC_FGD, positive), (cv2.GC_BGD, negative)):
        for x, y in points:
            cv2.circle(marks, (round(x * scale), round(y * scale)), reach, value, -1)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # It fails on marks without any object or without any ground: then the guess must do.
    kinds = set(np.unique(marks).tolist())
    if kinds & {cv2.GC_FGD, cv2.GC_PR_FGD} and kinds & {cv2.GC_BGD, cv2.GC_PR_BGD}:
        # Its clusters start at random: the same clicks shall give the same mask.
        cv2.setRNGSeed(1)
        cv2.grabCut(small, marks, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    foreground = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    foreground = touched(foreground, [(x * scale, y * scale) for x, y in positive])
    return cv2.resize(foreground, (width, height), interpolation=cv2.INTER_NEAREST)


def guess(shape, scale, positive, box):
    """Return the mask that GrabCut starts from: the box, or a disc around each click."""
    height, width = shape
    if box is not None:
        marks = np.full(shape, cv2.GC_BGD, np.uint8)
        left, top, right, bottom = (round(value * scale) for value in box)
        marks[max(0, top) : bottom, max(0, left) : right] = cv2.GC_PR_FGD
        return marks
    marks = np.full(shape, cv2.GC_PR_BGD, np.uint8)
    for x, y in positive:
        radius = max(height, width) // 5
        cv2.circle(marks, (round(x * scale), round(y * scale)), radius, cv2.GC_PR_FGD, -1)
    return marks


def touched(mask, points):
    """The parts of the mask that hold a click; the largest part when there was none."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    height, width = mask.shape
    wanted = {
        int(parts[min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)])
        for x, y in points
    } - {0}
    wanted = wanted or {1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))}
    return np.isin(parts, list(wanted)).astype(np.uint8)


init_context, handler = vision.export(Interactor)
