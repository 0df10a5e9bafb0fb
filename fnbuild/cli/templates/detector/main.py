"""A detector: an image in, labelled shapes out. Put your own model into `init_context`."""

import math

import cv2

from fnbuild import vision


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    path = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
    context.user_data.model = cv2.CascadeClassifier(path)


def handler(context, event):
    try:
        grey = vision.decode(event, mode="L")
        threshold = float(vision.fields(event).get("threshold", 0.5))
    except (TypeError, ValueError) as error:  # vision's errors are ValueErrors
        return vision.reply(context, {"error": str(error)}, getattr(error, "reply_status", 400))
    boxes, _, weights = context.user_data.model.detectMultiScale3(grey, outputRejectLevels=True)
    shapes = []
    for (left, top, width, height), weight in zip(boxes, weights, strict=True):
        confidence = 1 / (1 + math.exp(3 - float(weight)))
        if confidence >= threshold:
            box = (left, top, left + width, top + height)
            shapes.append(vision.rectangle("face", box, confidence))
    return vision.reply(context, shapes)
