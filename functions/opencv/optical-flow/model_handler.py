"""Sparse optical flow: corners in and around a shape say how it moved."""

import base64
import math

import cv2
import numpy as np

from fnbuild import vision

TYPES = {"rectangle": 4, "polygon": 6, "points": 2}

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


class UnusableError(ValueError):
    """A shape or a state that cannot be followed; told to the caller."""


class ModelHandler:
    def start(self, image, shape):
        """The shape and its state in the frame in which it is drawn; `image` is grey."""
        kind, points = read(shape)
        return shown(image, kind, points), remembered(image, kind, points)

    def follow(self, image, state):
        """The shape and its state in the next frame."""
        kind, points, before, area = recalled(state)
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
            return shown(image, kind, points), state
        placed = applied(kind, (points - origin) * scale, motion) / scale + origin
        x, y = placed.mean(axis=0)
        if not (0 <= x < width and 0 <= y < height):
            return shown(image, kind, points), state
        return shown(image, kind, placed), remembered(image, kind, placed)


def read(shape):
    """Type and points (n x 2) of a shape; a flat list, as older versions of CVAT send, is a box."""
    kind = shape.get("type") if isinstance(shape, dict) else "rectangle"
    numbers = shape.get("points") if isinstance(shape, dict) else shape
    if kind not in TYPES:
        raise UnusableError(f"a shape must be one of {', '.join(TYPES)}")
    try:
        flat = [float(value) for value in numbers]
    except (TypeError, ValueError):
        raise UnusableError('the "points" of a shape are numbers: x1, y1, x2, y2 …') from None
    if len(flat) % 2 or len(flat) < TYPES[kind] or (kind == "rectangle" and len(flat) != 4):
        raise UnusableError(f"a {kind} cannot have {len(flat)} numbers")
    if not all(math.isfinite(value) and abs(value) < 1e6 for value in flat):
        raise UnusableError("the points of a shape must be in the image")
    points = np.array(flat).reshape(-1, 2)
    if kind == "rectangle" and not (points[1] > points[0]).all():
        raise UnusableError("the rectangle has no area: send left, top, right, bottom")
    return kind, points


def shown(image, kind, points):
    """The shape for the reply. What leaves the image is cut off, but never all of a box."""
    height, width = image.shape
    limits = np.array([width, height], float)
    points = np.clip(points, 0, limits)
    if kind == "rectangle":
        points[0] = np.minimum(points[0], limits - 1)
        points[1] = np.maximum(points[1], points[0] + 1)
    return {"type": kind, "points": np.round(points, 1).ravel().tolist()}


def remembered(image, kind, points):
    """The state: what `follow` needs in the next frame, as JSON."""
    low, high = points.min(axis=0), points.max(axis=0)
    reach = np.maximum(high - low, SMALLEST)
    area = [*np.floor(low - reach).tolist(), *np.ceil(high + reach).tolist()]
    across, down = area[2] - area[0], area[3] - area[1]
    scale = min(1.0, LONGEST_SIDE / max(across, down))
    shape = max(1, round(down * scale)), max(1, round(across * scale))
    png = cv2.imencode(".png", patch(image, area, shape))[1].tobytes()
    return {
        "type": kind,
        "points": np.round(points, 2).ravel().tolist(),
        "area": area,
        "patch": base64.b64encode(png).decode("ascii"),
    }


def recalled(state):
    """Type, points, patch and area of a state."""
    try:
        kind, points = read(state)
        before = vision.decode_image(base64.b64decode(state["patch"], validate=True), mode="L")
        left, top, right, bottom = (float(value) for value in state["area"])
    except (KeyError, TypeError, ValueError):  # vision's errors are ValueErrors
        before = None
    if before is None or not (right - left >= 1 and bottom - top >= 1):
        raise UnusableError("this state is not one of this tracker's")
    return kind, points, before, (left, top, right, bottom)


def patch(image, area, shape):
    """An area of the image, scaled to a height and width; black beyond the image."""
    left, top, right, bottom = area
    height, width = shape
    fx, fy = width / (right - left), height / (bottom - top)
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
