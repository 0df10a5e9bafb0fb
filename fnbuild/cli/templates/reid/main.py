"""Re-identification: two frames with boxes in, which box is which out.

The reply has one number for each box of the first frame: the place of the same thing among the
boxes of the second, or -1. Put your own model into `look` and `distance`.
"""

import math

import cv2

from fnbuild import vision

DEFAULT_THRESHOLD = 0.5
DEFAULT_MAX_DISTANCE = 50


def init_context(context):
    # Load your model here: this runs once in each worker.
    context.logger.info("Ready")


def handler(context, event):
    try:
        first, second, threshold, reach = read_request(event)
    except ValueError as error:  # vision's errors are ValueErrors
        return vision.reply(context, {"error": str(error)}, getattr(error, "reply_status", 400))
    return vision.reply(context, match(first, second, threshold, reach))


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
        raise ValueError("a box lies outside its image")
    hsv = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_BGR2HSV)
    histogram = cv2.calcHist([hsv], [0, 1], None, [24, 16], [0, 180, 0, 256])
    return cv2.normalize(histogram, None, 1.0, 0.0, cv2.NORM_L1)


def distance(view, other):
    """0 for the same look, 1 for nothing in common."""
    return cv2.compareHist(view, other, cv2.HISTCMP_BHATTACHARYYA)


def read_request(event):
    fields = vision.fields(event)
    threshold = fields.get("threshold", DEFAULT_THRESHOLD)
    reach = fields.get("max_distance", DEFAULT_MAX_DISTANCE)
    if not isinstance(threshold, (int, float)) or not isinstance(reach, (int, float)):
        raise ValueError('"threshold" and "max_distance" must be numbers')
    first, second = (
        views(vision.decode(event, key=f"image{i}", mode="BGR"), fields.get(f"boxes{i}"))
        for i in (0, 1)
    )
    return first, second, threshold, reach


def views(image, boxes):
    """The centre and the look of each box."""
    try:
        places = [[float(value) for value in box["points"]] for box in boxes]
        centres = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in places]
    except (KeyError, TypeError, ValueError):
        raise ValueError("each box needs points: left, top, right, bottom") from None
    return [(centre, look(image, box)) for centre, box in zip(centres, places, strict=True)]
