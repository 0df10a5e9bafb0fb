"""A function whose failure is selected by the threshold."""

import json


def handler(context, event):
    threshold = event.body.get("threshold", 0)
    if threshold == 0.1:
        return answer(context, json.dumps({"error": "the <b>weights</b> are gone"}), 503)
    if threshold == 0.2:
        raise RuntimeError("no more memory")
    if threshold == 0.3:
        return answer(context, "{'label': 1}", 200)
    shapes = [
        {"label": "<img src=x onerror=alert(1)>", "type": "rectangle", "points": [10, 10, 60, 60]},
        {"label": "box", "type": "rectangle", "points": ["1", "2", "3", "4"]},
        {"label": "box", "type": "mask", "mask": [1, 1, 1, 0, 0, 99, 99]},
    ]
    return answer(context, json.dumps(shapes), 200)


def answer(context, text, status):
    return context.Response(body=text, content_type="application/json", status_code=status)
