"""Finds standing people: the request and the reply. The detector itself is in model_handler.py."""

from model_handler import LABEL, ModelHandler

from fnbuild import vision

DEFAULT_THRESHOLD = 0.5


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    context.user_data.model = ModelHandler()
    context.logger.info("The people detector is loaded")


def handler(context, event):
    try:
        image = vision.decode(event, mode="BGR")
        threshold = read_threshold(vision.fields(event))
    except vision.ImageError as error:
        return vision.reply(context, {"error": str(error)}, error.reply_status)
    detections = context.user_data.model.infer(image, threshold)
    return vision.reply(context, [vision.rectangle(LABEL, *detection) for detection in detections])


def read_threshold(fields):
    # CVAT leaves the key out when the threshold is 0.
    threshold = fields.get("threshold", DEFAULT_THRESHOLD)
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise vision.ImageError('"threshold" must be a number from 0 to 1')
    return threshold
