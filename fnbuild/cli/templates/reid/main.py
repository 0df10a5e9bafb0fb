"""Re-identification: two frames with boxes in, which box is which out.

The reply has one number for each box of the first frame: the place of the same thing among the
boxes of the second, or -1. Put your own model into `look` and `distance`.
"""

import base64
import json
import math

import cv2
import numpy as np

DEFAULT_THRESHOLD = 0.5
DEFAULT_MAX_DISTANCE = 50


class BadRequestError(Exception):
    """The caller's mistake, told to the caller."""


def init_context(context):
    # Load your model here: this runs once in each worker.
    context.logger.info("Ready")


def handler(context, event):
    try:
        first, second, threshold, reach = read_request(event.body)
    except BadRequestError as error:
        return reply(context, {"error": str(error)}, 400)
    return reply(context, match(first, second, threshold, reach), 200)


def match(first, second, threshold, reach):
    """The best pairs first, each box in one pair at most."""
    pairs = []
    for i, (place, view) in enumerate(first):
        for j, (other_place, other_view) in enumerate(second):
            apart = distance(view, other_view)
            if math.dist(place, other_place) <= reach and apart <= threshold:
                pairs.append((apart, i, j))
    matches, taken = [-1] * len(first), set()
    for _, i, j in sorted(pairs):
        if matches[i] == -1 and j not in taken:
            matches[i] = j
            taken.add(j)
    return matches


def look(image, box):
    """What a box looks like: a histogram of hue and saturation."""
    height, width = image.shape[:2]
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[2])), min(height, round(box[3]))
    if right <= left or bottom <= top:
        raise BadRequestError("a box lies outside its image")
    hsv = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_BGR2HSV)
    histogram = cv2.calcHist([hsv], [0, 1], None, [24, 16], [0, 180, 0, 256])
    return cv2.normalize(histogram, None, 1.0, 0.0, cv2.NORM_L1)


def distance(view, other):
    """0 for the same look, 1 for nothing in common."""
    return cv2.compareHist(view, other, cv2.HISTCMP_BHATTACHARYYA)


def read_request(body):
    if not isinstance(body, dict):
        raise BadRequestError("send a JSON object, with the header Content-Type: application/json")
    missing = {"image0", "image1", "boxes0", "boxes1"} - set(body)
    if missing:
        raise BadRequestError(f"keys are missing: {', '.join(sorted(missing))}")
    threshold = body.get("threshold", DEFAULT_THRESHOLD)
    reach = body.get("max_distance", DEFAULT_MAX_DISTANCE)
    if not isinstance(threshold, (int, float)) or not isinstance(reach, (int, float)):
        raise BadRequestError('"threshold" and "max_distance" must be numbers')
    first = views(body["image0"], body["boxes0"])
    return first, views(body["image1"], body["boxes1"]), threshold, reach


def views(text, boxes):
    """The centre and the look of each box."""
    image = decode(text)
    found = []
    try:
        for box in boxes:
            left, top, right, bottom = (float(value) for value in box["points"])
            centre = (left + right) / 2, (top + bottom) / 2
            found.append((centre, look(image, (left, top, right, bottom))))
    except (KeyError, TypeError, ValueError):
        raise BadRequestError("each box needs points: left, top, right, bottom") from None
    return found


def decode(text):
    """The image in 8-bit colours, blue first as OpenCV has them."""
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
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
