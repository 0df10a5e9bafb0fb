import json
import os


def init_context(context):
    texts = []
    for name in ("base", "own"):
        with open("/opt/models/" + name) as file:
            texts.append(file.read().strip())
    context.user_data.texts = texts


def handler(context, event):
    found = {
        "models": context.user_data.texts,
        "redis": [os.environ["CVAT_FUNCTIONS_REDIS_" + word] for word in ("HOST", "PORT")],
        "asked": event.body,
    }
    return context.Response(
        body=json.dumps(found), headers={}, content_type="application/json", status_code=200
    )
