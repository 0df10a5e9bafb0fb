"""Finds standing people: the request and the reply. The detector itself is in model_handler.py."""

import base64
import binascii
import json

from model_handler import ModelHandler, UnreadableImageError

DEFAULT_THRESHOLD = 0.5


class BadRequestError(Exception):
    """The caller's mistake, told to the caller."""


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    context.user_data.model = ModelHandler()
    context.logger.info("The people detector is loaded")


def handler(context, event):
    try:
        image, threshold = read_request(event.body)
        shapes = context.user_data.model.infer(image, threshold)
    except (BadRequestError, UnreadableImageError) as error:
        return reply(context, {"error": str(error)}, 400)
    return reply(context, shapes, 200)


def read_request(body):
    """The encoded image and the threshold of a request as CVAT sends it."""
    if not isinstance(body, dict):
        raise BadRequestError("send a JSON object, with the header Content-Type: application/json")
    if not isinstance(body.get("image"), str):
        raise BadRequestError('the key "image" is missing: the image file in base64')
    try:
        image = base64.b64decode(body["image"], validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError('"image" is not base64') from None
    # CVAT leaves the key out when the threshold is 0.
    threshold = body.get("threshold", DEFAULT_THRESHOLD)
    if not isinstance(threshold, (int, float)):
        raise BadRequestError('"threshold" must be a number from 0 to 1')
    return image, threshold


def reply(context, content, status):
    return context.Response(
        body=json.dumps(content),
        headers={},
        content_type="application/json",
        status_code=status,
    )
