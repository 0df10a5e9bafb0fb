"""Classification: a picture in, labels of the whole picture out. The model is in model.py."""

from model import Model

from fnbuild import vision


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    context.user_data.model = Model()


def handler(context, event):
    try:
        image = vision.decode(event)
        threshold = float(vision.fields(event).get("threshold", 0.5))
    except (TypeError, ValueError) as error:  # vision's errors are ValueErrors
        return vision.reply(context, {"error": str(error)}, getattr(error, "reply_status", 400))
    predictions = context.user_data.model.infer(image, threshold)
    return vision.reply(context, [vision.tag(*prediction) for prediction in predictions])
