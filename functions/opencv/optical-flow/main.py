"""Follows shapes: the request and the reply. The following itself is in model_handler.py.

The state of a shape travels with the requests, so any worker can take the next frame.
"""

from model_handler import ModelHandler, UnusableError

from fnbuild import vision


def init_context(context):
    # Runs once in each worker: what is loaded here serves every request.
    context.user_data.model = ModelHandler()
    context.logger.info("The tracker is ready")


def handler(context, event):
    model = context.user_data.model
    try:
        image = vision.decode(event, mode="L")
        shapes, states = read_shapes(vision.fields(event))
        found = [
            model.follow(image, states[i]) if i < len(states) else model.start(image, shape)
            for i, shape in enumerate(shapes)
        ]
    except vision.ImageError as error:
        return vision.reply(context, {"error": str(error)}, error.reply_status)
    except UnusableError as error:
        return vision.reply(context, {"error": str(error)}, 400)
    content = {"shapes": [shape for shape, _ in found], "states": [state for _, state in found]}
    return vision.reply(context, content)


def read_shapes(fields):
    """CVAT sends shapes to start with, later as many nulls and the states of the last reply."""
    shapes, states = fields.get("shapes"), fields.get("states") or []
    if not isinstance(shapes, list) or not isinstance(states, list):
        raise vision.ImageError('"shapes" and "states" must be lists')
    return shapes, states
