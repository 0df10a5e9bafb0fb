"""A detector as CVAT's functions are: Pillow decodes, and loops build the reply."""

import base64
import io
import json
import os

import torchvision_ops  # noqa: F401
from PIL import Image
from ultralytics import YOLO


def init_context(context):
    context.user_data.model = YOLO(os.environ["MODEL"], task="detect")


def handler(context, event):
    data = event.body
    image = Image.open(io.BytesIO(base64.b64decode(data["image"]))).convert("RGB")
    (result,) = context.user_data.model(image, conf=data.get("threshold", 0.25), verbose=False)
    boxes = result.boxes
    reply = [
        {
            "confidence": str(float(confidence)),
            "label": result.names[int(number)],
            "points": box.tolist(),
            "type": "rectangle",
        }
        for box, confidence, number in zip(boxes.xyxy, boxes.conf, boxes.cls, strict=True)
    ]
    return context.Response(
        body=json.dumps(reply), headers={}, content_type="application/json", status_code=200
    )
