"""Call a function's handler: FOLDER REQUESTS REPLIES, both files of JSON lists.

Runs in the environment of the function, with the repository on the path.
"""

import json
import os
import sys

import nuclio_sdk

folder, requests, replies = sys.argv[1:]
sys.path.insert(0, folder)
os.chdir(folder)

import main  # noqa: E402

context = nuclio_sdk.Context(logger=nuclio_sdk.Logger(level=50))
main.init_context(context)
with open(requests) as file:
    bodies = json.load(file)
results = []
for body in bodies:
    try:
        reply = main.handler(context, nuclio_sdk.Event(body=body, content_type="application/json"))
        results.append([reply.status_code, json.loads(reply.body)])
    except Exception as error:  # noqa: BLE001
        results.append([500, f"{type(error).__name__}: {error}"])
with open(replies, "w") as file:
    json.dump(results, file)
