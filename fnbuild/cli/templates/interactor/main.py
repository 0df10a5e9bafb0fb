"""An interactor: an image and clicks in, a mask out. Put your own model into `segment`."""

import os

import cv2
import numpy as np

from fnbuild import vision

# GrabCut's time grows with the pixels; the mask is enlarged afterwards.
LONGEST_SIDE = 400


def init_context(context):
    # Load your model here: this runs once in each worker.
    context.user_data.rows = os.environ.get("MASK_FORMAT") == "rows"


def handler(context, event):
    try:
        image = vision.decode(event, mode="BGR")
        positive, negative, box = read_clicks(vision.fields(event))
    except ValueError as error:  # vision's errors are ValueErrors
        return vision.reply(context, {"error": str(error)}, getattr(error, "reply_status", 400))
    mask = segment(image, positive, negative, box)
    return vision.reply(context, as_rows(mask) if context.user_data.rows else as_runs(mask))


def segment(image, positive, negative, box):
    """A mask of the image's size, 1 where the object is, found by GrabCut.

    Points are (x, y) and the box is (left, top, right, bottom) or None, in pixels of the image.
    """
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    marks = guess(small.shape[:2], scale, positive, box)
    reach = max(2, min(small.shape[:2]) // 60)
    for value, points in ((cv2.GC_FGD, positive), (cv2.GC_BGD, negative)):
        for x, y in points:
            cv2.circle(marks, (round(x * scale), round(y * scale)), reach, value, -1)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # It fails on marks without any object or without any ground: then the guess must do.
    kinds = set(np.unique(marks).tolist())
    if kinds & {cv2.GC_FGD, cv2.GC_PR_FGD} and kinds & {cv2.GC_BGD, cv2.GC_PR_BGD}:
        cv2.grabCut(small, marks, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    found = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = touched(found, [(x * scale, y * scale) for x, y in positive])
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST)


def guess(shape, scale, positive, box):
    """What GrabCut starts from: the box, or a disc around each click."""
    height, width = shape
    if box:
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


def as_runs(mask):
    """The reply for CVAT 2.60 and newer: run lengths in the box of the mask, zeros first."""
    if not mask.any():
        return {"shapes": []}
    *pixels, left, top, right, bottom = vision.mask("", mask)["mask"]
    # A zero in front and nothing after: a mask that begins with the object has a first run of 0.
    changes = np.flatnonzero(np.diff(np.concatenate(([0], pixels)))).tolist()
    runs = np.diff([0, *changes, len(pixels)]).tolist()
    shape = {
        "type": "mask",
        "points": [*runs, left, top, right, bottom],
        "attributes": [],
        "group": 0,
        "source": "semi-auto",
        "occluded": False,
        "rotation": 0,
    }
    return {"shapes": [shape]}


def as_rows(mask):
    """The reply for older versions of CVAT: every pixel of the image."""
    return {"mask": mask.tolist()}


def read_clicks(fields):
    try:
        positive = [(float(x), float(y)) for x, y in fields.get("pos_points") or []]
        negative = [(float(x), float(y)) for x, y in fields.get("neg_points") or []]
        corners = [float(value) for corner in fields.get("obj_bbox") or [] for value in corner]
    except (TypeError, ValueError):
        raise ValueError("points are lists of [x, y], the box is two of them") from None
    if len(corners) not in (0, 4):
        raise ValueError("the box is [[left, top], [right, bottom]]")
    if not positive and not corners:
        raise ValueError("send at least one positive point or a box")
    return positive, negative, corners or None
