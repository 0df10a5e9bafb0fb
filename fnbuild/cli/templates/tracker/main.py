"""A tracker: a frame and boxes in, their places in the next frame out.

The state of a box travels with the requests, so any worker can take the next frame. Put your own
tracker into `load`, `start` and `follow`.
"""

import cv2

from fnbuild import vision

# The remembered look of a box is kept this small: states travel through the browser.
PATCH = 48
# How far a box may move between frames, in its own widths and heights.
REACH = 1.0
SCALES = (0.94, 1.0, 1.06)
# Below this likeness the thing counts as hidden and the box stays where it was.
LIKENESS = 0.4


class Tracker(vision.Tracker):
    mode = "L"  # or "RGB", "BGR"
    types = ("rectangle",)  # as in supported_shape_types of function.yaml

    def load(self, context):
        # Load your model here: this runs once in each worker.
        context.logger.info("The tracker is ready")

    def start(self, image, shape):
        """The state of a new box: where it is and what it looks like."""
        left, top, right, bottom = inside(image, shape.box)
        patch = image[top:bottom, left:right]
        scale = min(1.0, PATCH / max(patch.shape))
        size = max(4, round(patch.shape[1] * scale)), max(4, round(patch.shape[0] * scale))
        return {"box": shape.box, "patch": vision.resize(patch, size, "area")}

    def follow(self, image, state):
        """The box in this frame, and its new state."""
        box = find(image, state["box"].tolist(), state["patch"])
        if box is None:
            return None, None
        shape = vision.TrackedShape("rectangle", box)
        return shape, dict(state, box=shape.box)


def find(image, box, patch):
    """The place around the box that looks most like the patch; None if there is none."""
    left, top, right, bottom = box
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
    best, place = LIKENESS, None
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
            place = [new_left, new_top, new_left + width * scale, new_top + height * scale]
    return place


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


init_context, handler = vision.export(Tracker)
