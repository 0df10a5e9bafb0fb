"""A tracker: a frame and boxes in, their places in the next frame out.

The state of a box travels with the requests, so any worker can take the next frame. Put your own
tracker into `start` and `follow`.
"""

import base64

import cv2

from fnbuild import vision

# The remembered look of a box is kept this small: states travel through the browser.
PATCH = 48
# How far a box may move between frames, in its own widths and heights.
REACH = 1.0
SCALES = (0.94, 1.0, 1.06)
# Below this likeness the thing counts as hidden and the box stays where it was.
LIKENESS = 0.4


def init_context(context):
    # Load your model here: this runs once in each worker.
    context.logger.info("The tracker is ready")


def handler(context, event):
    try:
        image = vision.decode(event, mode="L")
        shapes, states = read_shapes(vision.fields(event))
        results = [
            follow(image, states[i]) if i < len(states) else start(image, box_of(shape))
            for i, shape in enumerate(shapes)
        ]
    except ValueError as error:  # vision's errors are ValueErrors
        return vision.reply(context, {"error": str(error)}, getattr(error, "reply_status", 400))
    content = {
        "shapes": [{"type": "rectangle", "points": state["box"]} for state in results],
        "states": results,
    }
    return vision.reply(context, content)


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
        patch = vision.decode_image(base64.b64decode(state["patch"]), mode="L")
    except (KeyError, TypeError, ValueError):
        raise ValueError("this state is not one of this tracker's") from None
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
        raise ValueError("a shape is a rectangle: left, top, right, bottom") from None
    if right <= left or bottom <= top:
        raise ValueError("the rectangle has no area")
    return left, top, right, bottom


def read_shapes(fields):
    shapes, states = fields.get("shapes"), fields.get("states") or []
    if not isinstance(shapes, list) or not isinstance(states, list):
        raise ValueError('"shapes" and "states" must be lists')
    return shapes, states
