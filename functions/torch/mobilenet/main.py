"""Classifies images: requests, and the answers for CVAT, V1 and V2."""

import os
import sys

from model_handler import ModelError, ModelHandler

from fnbuild import vision

DEFAULT_THRESHOLD = 0.5
# The labels of an image in V2.
COUNT = 5


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    try:
        model = ModelHandler(os.environ.get("STORAGE_URI", "/mnt/models"))
    except ModelError as error:
        # The message says it all: the error of the function has no traceback.
        sys.exit(str(error))
    context.user_data.model = model
    context.logger.info(f"{model.path} has {len(model.labels)} classes, on {model.device}")


def handler(context, event):
    try:
        image = vision.decode(event)
        threshold = read_threshold(vision.fields(event))
    except vision.ImageError as error:
        return vision.reply(context, {"error": str(error)}, error.reply_status)
    ranking = context.user_data.model.infer(image, COUNT)
    if event.path.startswith("/v1/"):
        label, probability = ranking[0]
        return vision.reply(context, [label, f"{round(probability * 100, 2)}%"])
    if event.path.startswith("/v2/"):
        labels, scores = zip(*ranking, strict=True)
        return vision.reply(context, {"labels": labels, "scores": scores})
    return vision.reply(context, [vision.tag(*item) for item in ranking if item[1] >= threshold])


def read_threshold(fields):
    # CVAT leaves the key out when the threshold is 0.
    threshold = fields.get("threshold", DEFAULT_THRESHOLD)
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise vision.ImageError('"threshold" must be a number from 0 to 1')
    return threshold
