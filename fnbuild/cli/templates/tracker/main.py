"""A tracker: a frame and boxes in, their places in the next frame out.

The state of a box travels with the requests, so any worker can take the next frame. Put your own
tracker into `start` and `follow`.
"""

import base64
import json

import cv2
import numpy as np

# The remembered look of a box is kept this small: states travel through the browser.
PATCH = 48
# How far a box may move between frames, in its own widths and heights.
REACH = 1.0
SCALES = (0.94, 1.0, 1.06)
# Below this likeness the thing counts as hidden and the box stays where it was.
LIKENESS = 0.4


class BadRequestError(Exception):
    """The caller's mistake, told to the caller."""


def init_context(context):
    # Load your model here: this runs once in each worker.
    context.logger.info("The tracker is ready")


def handler(context, event):
    try:
        image, shapes, states = read_request(event.body)
        results = [
            follow(image, states[i]) if i < len(states) else start(image, box_of(shape))
            for i, shape in enumerate(shapes)
        ]
    except BadRequestError as error:
        return reply(context, {"error": str(error)}, 400)
    content = {
        "shapes": [{"type": "rectangle", "points": state["box"]} for state in results],
        "states": results,
    }
    return reply(context, content, 200)


def start(image, box):
    """The state of a new box: where it is and what it looks like."""
    left, top, right, bottom = inside(image, box)
    patch = image[top:bottom, left:right]
    scale = min(1.0, PATCH / max(patch.shape))
    size = max(4, round(patch.shape[1] * scale)), max(4, round(patch.shape[0] * scale))
    small = cv2.resize(patch, size, interpolation=cv2.INTER_AREA)
    png = cv2.imencode(".png", small)[1].tobytes()
    return {"box": [float(v) for v in box], "patch": base64.b64encode(png).decode("ascii")}


def follow(image, state):
    """The state in this frame: the place around the old one that looks most like the patch."""
    try:
        left, top, right, bottom = (float(v) for v in state["box"])
        patch = decode(state["patch"])
    except (KeyError, TypeError, ValueError):
        raise BadRequestError("this state is not one of this tracker's") from None
    width, height = right - left, bottom - top
    area = inside(
        image,
        (
            left - width * REACH,
            top - height * REACH,
            right + width * REACH,
            bottom + height * REACH,
        ),
    )
    best, box = LIKENESS, [left, top, right, bottom]
    for scale in SCALES:
        # The frame is shrunk until the box, grown by `scale`, is as large as the patch.
        fx = patch.shape[1] / (width * scale)
        fy = patch.shape[0] / (height * scale)
        window = image[area[1] : area[3], area[0] : area[2]]
        window = cv2.resize(window, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
        if window.shape[0] < patch.shape[0] or window.shape[1] < patch.shape[1]:
            continue
        likeness = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
        _, score, _, (x, y) = cv2.minMaxLoc(likeness)
        if score > best:
            new_left, new_top = area[0] + x / fx, area[1] + y / fy
            best = score
            box = [new_left, new_top, new_left + width * scale, new_top + height * scale]
    return {"box": [round(value, 1) for value in box], "patch": state["patch"]}


def inside(image, box):
    """Whole pixels of a box that lie in the image, at least one."""
    height, width = image.shape
    left, top = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
    return (
        left,
        top,
        min(max(round(box[2]), left + 1), width),
        min(max(round(box[3]), top + 1), height),
    )


def box_of(shape):
    """CVAT sends {"type", "points"}; versions before supported_shape_types a flat list."""
    points = shape.get("points") if isinstance(shape, dict) else shape
    try:
        left, top, right, bottom = (float(value) for value in points)
    except (TypeError, ValueError):
        raise BadRequestError("a shape is a rectangle: left, top, right, bottom") from None
    if right <= left or bottom <= top:
        raise BadRequestError("the rectangle has no area")
    return left, top, right, bottom


def read_request(body):
    if not isinstance(body, dict) or "image" not in body:
        raise BadRequestError('send a JSON object with the image in base64 under "image"')
    shapes, states = body.get("shapes"), body.get("states") or []
    if not isinstance(shapes, list) or not isinstance(states, list):
        raise BadRequestError('"shapes" and "states" must be lists')
    return decode(body["image"]), shapes, states


def decode(text):
    """The image in 8-bit grey: the tracker needs no colours."""
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    except (TypeError, ValueError, cv2.error):
        image = None
    if image is None:
        raise BadRequestError("the image cannot be decoded")
    return image


def reply(context, content, status):
    return context.Response(
        body=json.dumps(content),
        headers={},
        content_type="application/json",
        status_code=status,
    )
