"""Cuts out objects: the request and the reply. The cutting itself is in model_handler.py."""

import math
import os

from model_handler import ModelHandler, as_rows, as_runs

from fnbuild import vision


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    context.user_data.model = ModelHandler()
    context.user_data.rows = os.environ.get("MASK_FORMAT") == "rows"
    context.logger.info("GrabCut is ready")


def handler(context, event):
    try:
        image = vision.decode(event, mode="BGR")
        positive, negative, box = read_clicks(vision.fields(event))
    except vision.ImageError as error:
        return vision.reply(context, {"error": str(error)}, error.reply_status)
    mask = context.user_data.model.infer(image, positive, negative, box)
    return vision.reply(context, as_rows(mask) if context.user_data.rows else as_runs(mask))


def read_clicks(fields):
    """Points on the object, points beside it, and the box or None."""
    positive = read_points(fields, "pos_points")
    negative = read_points(fields, "neg_points")
    corners = read_points(fields, "obj_bbox")
    if len(corners) not in (0, 2):
        raise vision.ImageError('"obj_bbox" must be [] or [[left, top], [right, bottom]]')
    if not corners:
        if not positive:
            raise vision.ImageError("send a point on the object or a box around it")
        return positive, negative, None
    (left, top), (right, bottom) = corners
    if right <= left or bottom <= top:
        raise vision.ImageError("the box has no area: send [[left, top], [right, bottom]]")
    return positive, negative, (left, top, right, bottom)


def read_points(fields, key):
    try:
        points = [(float(x), float(y)) for x, y in fields.get(key) or []]
    except (TypeError, ValueError):
        raise vision.ImageError(f'"{key}" must be a list of [x, y]') from None
    if not all(math.isfinite(value) for point in points for value in point):
        raise vision.ImageError(f'"{key}" must hold finite numbers')
    return points
