"""Sparse optical flow: corners in and around a shape say how it moved."""

import math

import cv2
import numpy as np

from fnbuild import vision

# The remembered part of a frame is the shape and its own size around it, kept this small.
LONGEST_SIDE = 240
# Of a single point there is no size: so many pixels around it are looked at.
SMALLEST = 24.0

CORNERS = 60
FEWEST = 4
WINDOW = (15, 15)
LEVELS = 3
# A corner that does not come back to its place when it is followed backwards was not followed.
ASTRAY = 1.0
# Between two frames nothing grows or shrinks by more.
GROWTH = 1.3


class ModelHandler:
    def remember(self, image, kind, points):
        """The state of a shape in a grey image: what `follow` needs in the next one."""
        low, high = points.min(axis=0), points.max(axis=0)
        reach = np.maximum(high - low, SMALLEST)
        area = [*np.floor(low - reach).tolist(), *np.ceil(high + reach).tolist()]
        across, down = area[2] - area[0], area[3] - area[1]
        scale = min(1.0, LONGEST_SIDE / max(across, down))
        shape = max(1, round(down * scale)), max(1, round(across * scale))
        # PNG is smaller than the compressed pixels.
        png = cv2.imencode(".png", patch(image, area, shape))[1].tobytes()
        return {"type": kind, "points": points, "area": area, "patch": png}

    def follow(self, image, state):
        """The points of a state's shape in the next image; None if it is lost."""
        kind, points, area = state["type"], state["points"], state["area"]
        before = vision.decode_image(state["patch"], mode="L")
        scale = before.shape[1] / (area[2] - area[0])
        origin = np.array(area[:2])
        height, width = image.shape
        mask = inside(kind, (points - origin) * scale, before.shape)
        # The edge of the image stands still, whatever crosses it.
        mask &= inside(
            "rectangle", (np.array([[0, 0], [width, height]]) - origin) * scale, mask.shape
        )
        motion = moved(before, patch(image, area, before.shape), mask)
        if motion is None:
            return None
        placed = applied(kind, (points - origin) * scale, motion) / scale + origin
        x, y = placed.mean(axis=0)
        return placed if 0 <= x < width and 0 <= y < height else None


def patch(image, area, shape):
    """An area of the image, scaled to a height and width; black beyond the image."""
    left, top, right, bottom = area
    height, width = shape
    fx, fy = width / (right - left), height / (bottom - top)
    image, (x, y) = vision.crop_with_margin(image, area, int(0.5 / min(fx, fy)) + 2)
    left, top = left - x, top - y
    # Where the area's pixels lie in the patch: the middle of a pixel stays its middle.
    turn = np.array([[fx, 0, (0.5 - left) * fx - 0.5], [0, fy, (0.5 - top) * fy - 0.5]], np.float64)
    if min(fx, fy) < 0.5:
        # Else far smaller patches would be made of single pixels.
        image = cv2.blur(image, (max(1, int(0.5 / fx)), max(1, int(0.5 / fy))))
    return cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR)


def inside(kind, places, shape):
    """255 in a mask of a height and width where a shape is, which has its points at `places`."""
    mask = np.zeros(shape, np.uint8)
    # Far beyond the patch whole numbers overflow in OpenCV.
    places = np.clip(np.round(places), -10_000, 10_000).astype(np.int32)
    if kind == "rectangle":
        (left, top), (right, bottom) = places.tolist()
        cv2.rectangle(mask, (left, top), (right - 1, bottom - 1), 255, -1)
    elif kind == "polygon":
        cv2.fillPoly(mask, [places], 255)
    else:
        for place in places.tolist():
            cv2.circle(mask, place, round(SMALLEST / 2), 255, -1)
    return mask


def moved(before, after, mask):
    """The motion (2 x 3: turn, scale, shift) of what the mask shows; None when it is lost."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 3, mask=mask)
    if corners is None:
        return None
    options = {"winSize": WINDOW, "maxLevel": LEVELS}
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **options)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
    astray = np.linalg.norm(back - corners, axis=2).ravel()
    good = (seen.ravel() == 1) & (again.ravel() == 1) & (astray < ASTRAY)
    if good.sum() < FEWEST:
        return None
    cv2.setRNGSeed(1)
    motion, _ = cv2.estimateAffinePartial2D(
        corners[good], there[good], method=cv2.RANSAC, ransacReprojThreshold=2.0
    )
    if motion is None:
        return None
    growth = math.hypot(motion[0, 0], motion[1, 0])
    return motion if 1 / GROWTH < growth < GROWTH else None


def applied(kind, points, motion):
    """The points after the motion. A rectangle stays upright: its middle moves, its sides grow."""
    if kind != "rectangle":
        return points @ motion[:, :2].T + motion[:, 2]
    middle = motion[:, :2] @ points.mean(axis=0) + motion[:, 2]
    half = (points[1] - points[0]) / 2 * math.hypot(motion[0, 0], motion[1, 0])
    return np.array([middle - half, middle + half])
