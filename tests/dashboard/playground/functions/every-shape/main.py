"""Every type of shape, far apart in a picture of 400 x 300."""

import json

CUBOID = [160, 130, 160, 180, 210, 130, 210, 180, 230, 110, 230, 160, 180, 110, 180, 160]
PATCH = [1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1] * 10 + [260, 120, 263, 149]
TURNED = [110, 30, 190, 50]
STICK = [
    {"label": "head", "type": "points", "points": [340, 120]},
    {"label": "foot", "type": "points", "points": [340, 180]},
    {"label": "hand", "type": "points", "points": [380, 150], "outside": 1},
]
SHAPES = [
    {"label": "box", "type": "rectangle", "points": [10, 30, 70, 80], "confidence": "0.9"},
    {"label": "box", "type": "rectangle", "points": TURNED, "rotation": 90, "confidence": "0.2"},
    {"label": "ring", "type": "ellipse", "points": [250, 50, 280, 30], "confidence": 0.8},
    {"label": "area", "type": "polygon", "points": [310, 20, 390, 20, 350, 90]},
    {"label": "line", "type": "polyline", "points": [10, 120, 60, 120, 60, 170]},
    {"label": "dots", "type": "points", "points": [100, 120, 130, 150]},
    {"label": "crate", "type": "cuboid", "points": CUBOID},
    {"label": "patch", "type": "mask", "mask": PATCH},
    {"label": "stick", "type": "skeleton", "elements": STICK},
    {"label": "indoors", "type": "tag", "attributes": [{"name": "light", "value": "dim"}]},
]


# Only with this threshold: CVAT would not draw it.
WITH_INTERVAL = 0.05
INTERVAL = {"label": "indoors", "type": "interval", "points": [0, 2]}


def handler(context, event):
    more = [INTERVAL] if event.body.get("threshold") == WITH_INTERVAL else []
    return context.Response(body=json.dumps(SHAPES + more), content_type="application/json")
