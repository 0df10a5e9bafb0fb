"""GrabCut on the part of the image that matters."""

import cv2
import numpy as np

# GrabCut's time grows with the pixels; the mask is enlarged afterwards, and its edge smoothed.
LONGEST_SIDE = 360
ROUNDS = 4

# What lies around the box shows GrabCut the colours of the ground, in parts of the box's size.
MARGIN = 0.35


class ModelHandler:
    def infer(self, image, positive, negative, box):
        """A mask of the image's size, 1 where the object is.

        `image` is in BGR. Points are (x, y) and the box is (left, top, right, bottom) or None, in
        pixels of the image.
        """
        height, width = image.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        left, top, right, bottom = area = around(box, positive, width, height)
        # A click beside the object may lie beyond the part that is looked at.
        negative = [(x, y) for x, y in negative if left <= x < right and top <= y < bottom]
        part = image[top:bottom, left:right]
        scale = min(1.0, LONGEST_SIDE / max(part.shape[:2]))
        # A picture of one row or column stays one.
        size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        marks = marked(small, area, positive, negative, box)
        places = [within(points, area, small.shape[:2]) for points in (positive, negative)]
        foreground = wanted(cut(small, marks), *places, whole=box is not None)
        grown = cv2.resize(
            foreground * 255, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC
        )
        mask[top:bottom, left:right] = grown > 127
        if box:
            outside = np.ones_like(mask)
            outside[rows_and_columns(box, width, height)] = 0
            mask[outside == 1] = 0
        return mask


def around(box, positive, width, height):
    """The part of the image to look at: the box with a margin that holds the clicks, else all."""
    if box is None:
        return 0, 0, width, height
    left, top, right, bottom = box
    across, down = (right - left) * MARGIN + 2, (bottom - top) * MARGIN + 2
    xs, ys = [x for x, _ in positive], [y for _, y in positive]
    left, right = min([left - across, *xs]), max([right + across, *xs])
    top, bottom = min([top - down, *ys]), max([bottom + down, *ys])
    rows, columns = rows_and_columns((left, top, right, bottom), width, height)
    return columns.start, rows.start, columns.stop, rows.stop


def rows_and_columns(box, width, height):
    """Slices of the pixels of a box that lie in the image, at least one."""
    left, top = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
    right = min(max(round(box[2]), left + 1), width)
    bottom = min(max(round(box[3]), top + 1), height)
    return slice(top, bottom), slice(left, right)


def within(points, area, shape):
    """Points of the image as points of the part, whole and inside."""
    left, top, right, bottom = area
    height, width = shape
    fx, fy = width / (right - left), height / (bottom - top)
    return [
        (
            min(max(int((x - left) * fx), 0), width - 1),
            min(max(int((y - top) * fy), 0), height - 1),
        )
        for x, y in points
    ]


def marked(image, area, positive, negative, box):
    """Return the mask that GrabCut starts from: the clicks, and the box or similar pixels."""
    shape = image.shape[:2]
    clicked = within(positive, area, shape)
    if box:
        marks = np.full(shape, cv2.GC_BGD, np.uint8)
        (left, top), (right, bottom) = within([box[:2], box[2:]], area, shape)
        marks[top : bottom + 1, left : right + 1] = cv2.GC_PR_FGD
    else:
        marks = np.where(alike(image, clicked), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    for value, points in ((cv2.GC_FGD, clicked), (cv2.GC_BGD, within(negative, area, shape))):
        for point in points:
            cv2.circle(marks, point, reach(shape), value, -1)
    return marks


def alike(image, points):
    """Where the image has the colours of the points, not too far from them.

    A whole disc around each would hold so much of the ground that GrabCut may learn that instead.
    """
    colours = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 2), cv2.COLOR_BGR2LAB).astype(np.float32)
    near = np.zeros(image.shape[:2], np.uint8)
    apart = np.full(image.shape[:2], 255, np.float32)
    for x, y in points:
        cv2.circle(near, (x, y), max(image.shape) // 3, 1, -1)
        apart = np.minimum(apart, np.linalg.norm(colours - colours[y, x], axis=2))
    limit, _ = cv2.threshold(apart.astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return (near == 1) & (apart <= limit)


def cut(image, marks):
    """1 where the object is."""
    kinds = set(np.unique(marks).tolist())
    # It fails on marks without any object or without any ground: then the marks must do.
    if kinds & {cv2.GC_FGD, cv2.GC_PR_FGD} and kinds & {cv2.GC_BGD, cv2.GC_PR_BGD}:
        # Alike on every run, whoever was served before.
        cv2.setRNGSeed(1)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image, marks, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def wanted(mask, points, beside, *, whole):
    """The parts of the mask that hold a click; of a `whole` object also the others but crumbs.

    Of these a click beside the object takes away the part that it lies in, unless the largest.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    kept = {int(parts[y, x]) for x, y in points} - {0}
    if whole or not kept:
        areas = stats[:, cv2.CC_STAT_AREA].copy()
        areas[0] = 0
        large = np.flatnonzero(areas >= areas.max() / 8).tolist()
        # The click itself is marked as ground: the part lies around it.
        around = reach(mask.shape) + 2
        near = [
            parts[max(0, y - around) : y + around, max(0, x - around) : x + around]
            for x, y in beside
        ]
        taken = {int(part) for window in near for part in np.unique(window)} - {int(areas.argmax())}
        kept |= set(large) - taken
    return np.isin(parts, list(kept)).astype(np.uint8)


def reach(shape):
    """The radius within which a click is certain."""
    return max(2, min(shape) // 60)
