"""Functions of CVAT's four kinds that need only Python, and images for requests to them.

Their replies depend on the bytes of the image, so that a test can tell which one arrived. A comment
in the image may request a failure.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from tests.dashboard.conftest import write_function

COMMON = '''\
import base64
import hashlib
import json
import struct
import time


def picture_of(text):
    """The bytes, width and height of an encoded JPEG; its comment may order a failure."""
    data = base64.b64decode(text)
    if b"order: raise" in data:
        raise ValueError("this frame cannot be read")
    if b"order: sleep" in data:
        time.sleep(30)
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    height, width = struct.unpack(">HH", data[at + 5 : at + 9])
    return data, width, height


def answer(context, value):
    return context.Response(body=json.dumps(value), content_type="application/json")
'''

DETECTOR = (
    COMMON
    + """

def handler(context, event):
    data, width, height = picture_of(event.body["image"])
    if b"order: text" in data:
        return context.Response(body="no JSON", content_type="text/plain")
    if b"order: strings" in data:
        return answer(context, [{"label": "thing", "type": "rectangle", "points": ["1"] * 4}])
    box = [width // 4, height // 4, width // 2 - 1, height // 2 - 1]
    pixels = [1] * ((box[2] - box[0] + 1) * (box[3] - box[1] + 1))
    digest = hashlib.sha256(data).hexdigest()
    attributes = [
        {"name": "digest", "value": digest},
        {"name": "threshold", "value": str(int(100 * event.body.get("threshold", 0)))},
        {"name": "never declared", "value": "x"},
    ]
    joints = [{"label": n, "type": "points", "points": [int(n), 2]} for n in ("1", "2")]
    return answer(context, [
        {"label": "thing", "type": "rectangle", "points": box, "attributes": attributes},
        {"label": "area", "type": "mask", "mask": pixels + box, "points": []},
        {"label": "outline", "type": "polygon", "points": [0, 0, width, 0, width, height]},
        {"label": "body", "type": "skeleton", "elements": joints},
        {"label": "whole", "type": "tag"},
        {"label": "not in the spec", "type": "rectangle", "points": box},
    ])
"""
)

INTERACTOR = (
    COMMON
    + """

def handler(context, event):
    _, width, height = picture_of(event.body["image"])
    points = event.body["pos_points"] + event.body["obj_bbox"]
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    top, bottom = min(p[1] for p in points), max(p[1] for p in points)
    mask = [
        [int(left <= x <= right and top <= y <= bottom) for x in range(width)]
        for y in range(height)
    ]
    return answer(context, {"mask": mask})
"""
)

TRACKER = (
    COMMON
    + '''

def handler(context, event):
    picture_of(event.body["image"])
    shapes, states = [], []
    for i, given in enumerate(event.body["shapes"]):
        state = event.body["states"][i] if i < len(event.body["states"]) else None
        if state is None:
            state = {"shape": given, "steps": 0}
        else:
            state = {"shape": moved(state["shape"]), "steps": state["steps"] + 1}
        shapes.append(state["shape"])
        states.append(state)
    return answer(context, {"shapes": shapes, "states": states})


def moved(shape):
    """One pixel to the right, whichever way the shape is written."""
    if isinstance(shape, dict):
        return {**shape, "points": moved(shape["points"])}
    return [one + 1 if i % 2 == 0 else one for i, one in enumerate(shape)]
'''
)

REID = (
    COMMON
    + """

def handler(context, event):
    picture_of(event.body["image0"])
    picture_of(event.body["image1"])

    def nearest(box):
        gaps = [abs(box["points"][0] - one["points"][0]) for one in event.body["boxes1"]]
        best = min(range(len(gaps)), key=gaps.__getitem__, default=-1)
        return best if best >= 0 and gaps[best] <= event.body.get("max_distance", 50) else -1

    return answer(context, [nearest(box) for box in event.body["boxes0"]])
"""
)

_ATTRIBUTES = [
    {"name": "digest", "input_type": "text", "values": [""]},
    {"name": "threshold", "input_type": "number", "values": ["0", "100", "1"]},
]
LABELS = [
    {"name": "thing", "type": "rectangle", "attributes": _ATTRIBUTES},
    {"name": "area", "type": "mask"},
    {"name": "outline", "type": "polygon"},
    {
        "name": "body",
        "type": "skeleton",
        "sublabels": [{"name": "1", "type": "points"}, {"name": "2", "type": "points"}],
        "svg": "",
    },
    {"name": "whole", "type": "tag"},
]

_HTTP = """\
eventTimeout: 4s
triggers:
  http:
    kind: http
    maxWorkers: 1
    workerAvailabilityTimeoutMilliseconds: 1000
    attributes:
      maxRequestBodySize: 1048576
"""


def annotation_lines(**values: str) -> str:
    """Return lines of YAML with every value as a quoted text."""
    lines = [f"    {name}: {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(["  annotations:", *lines])


def write_models(home: Path, *names: str, build: str = "") -> list[Path]:
    """Write the folders of the models, or of those named; `build` are more lines of their spec."""
    kinds = {
        "finder": (DETECTOR, {"type": "detector", "spec": json.dumps(LABELS)}),
        "clicker": (INTERACTOR, {"type": "interactor", "version": "2", "min_pos_points": "1"}),
        "follower": (TRACKER, {"type": "tracker"}),
        "shaper": (
            TRACKER,
            {"type": "tracker", "supported_shape_types": "rectangle, polygon"},
        ),
        "matcher": (REID, {"type": "reid"}),
    }
    return [
        write_function(home, name, code, annotations=annotation_lines(**texts), spec=_HTTP + build)
        for name, (code, texts) in kinds.items()
        if not names or name in names
    ]


def frame(photograph: Path, at: int = 0, order: str = "") -> bytes:
    """Return a part of a photograph as a JPEG of 160 by 120 pixels, different for each `at`."""
    with Image.open(photograph) as full:
        left, top = at % 16 * 8, at // 16 * 8
        part = full.convert("RGB").crop((left, top, left + 160, top + 120))
    out = io.BytesIO()
    comment = {"comment": f"order: {order}".encode()} if order else {}
    part.save(out, "JPEG", quality=85, **comment)
    return out.getvalue()
