"""Answers every request with what it was sent. Replace the body of `handler` by your own."""

import json


def init_context(context):
    # Runs once in each worker, before the first request: load models and open connections here.
    context.user_data.greeting = "hello"


def handler(context, event):
    content = {
        "greeting": context.user_data.greeting,
        "method": event.method,
        "path": event.path,
        # JSON bodies arrive parsed, all others as bytes.
        "body": event.body.decode("utf-8", "replace")
        if isinstance(event.body, bytes)
        else event.body,
    }
    return context.Response(
        body=json.dumps(content),
        headers={},
        content_type="application/json",
        status_code=200,
    )
