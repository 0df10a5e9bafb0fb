"""A detector: an image in, a list of labelled shapes out. Put your own model into `Model`."""

import base64
import json
import math

import cv2
import numpy as np


class BadRequestError(Exception):
    """The caller's mistake, told to the caller."""


class Model:
    """Loaded once in each worker."""

    def __init__(self):
        path = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
        self.cascade = cv2.CascadeClassifier(path)

    def detect(self, image, threshold):
        """Shapes in pixels of the image. The labels must be those in function.yaml."""
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        boxes, _, weights = self.cascade.detectMultiScale3(grey, outputRejectLevels=True)
        shapes = []
        for box, weight in zip(boxes, weights, strict=True):
            confidence = 1 / (1 + math.exp(3 - float(weight)))
            if confidence < threshold:
                continue
            left, top, width, height = box.tolist()
            shapes.append(
                {
                    "label": "face",
                    "type": "rectangle",
                    "points": [left, top, left + width, top + height],
                    "confidence": f"{confidence:.4f}",
                }
            )
        return shapes


def init_context(context):
    context.user_data.model = Model()
    context.logger.info("The model is loaded")


def handler(context, event):
    try:
        image, threshold = read_request(event.body)
    except BadRequestError as error:
        return reply(context, {"error": str(error)}, 400)
    return reply(context, context.user_data.model.detect(image, threshold), 200)


def read_request(body):
    if not isinstance(body, dict) or "image" not in body:
        raise BadRequestError('send a JSON object with the image in base64 under "image"')
    threshold = body.get("threshold", 0.5)
    if not isinstance(threshold, (int, float)):
        raise BadRequestError('"threshold" must be a number from 0 to 1')
    return decode(body["image"]), threshold


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
