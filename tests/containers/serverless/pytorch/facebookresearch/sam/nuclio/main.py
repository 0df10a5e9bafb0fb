import json
import os


def init_context(context):
    context.user_data.files = sorted(os.listdir("/opt/nuclio"))


def handler(context, event):
    found = {
        "files": context.user_data.files,
        "redis": [os.environ["CVAT_FUNCTIONS_REDIS_" + word] for word in ("HOST", "PORT")],
        "asked": event.body,
    }
    return context.Response(
        body=json.dumps(found), headers={}, content_type="application/json", status_code=200
    )
