"""Handlers import fnbuild.vision, though their environment has no fnbuild."""

import json

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import running
from tests.vision.conftest import base64_of

HANDLER = """
import multiprocessing
import os
import sys

from fnbuild import vision


def child(queue):
    # Another process that the handler starts, as libraries for data loading do.
    from fnbuild import vision

    queue.put(vision.rectangle("cat", (1, 2, 3, 4)))


def handler(context, event):
    if event.path == "/child":
        spawn = multiprocessing.get_context("spawn")
        queue = spawn.SimpleQueue()
        process = spawn.Process(target=child, args=(queue,))
        process.start()
        shape = queue.get()
        process.join()
        return vision.reply(context, shape)
    try:
        data = vision.image_file(event)
    except vision.ImageError as error:
        return vision.reply(context, {"error": str(error)}, 400)
    found = {
        "size": len(data),
        "fields": vision.fields(event),
        "parsed": "body" in vars(event),
        "path": [path for path in sys.path if os.path.isdir(os.path.join(path, "fnbuild"))],
        "threshold": event.body["threshold"] if isinstance(event.body, dict) else None,
    }
    return vision.reply(context, found)
"""


@pytest.fixture(scope="module", params=["3.6", "3.8", "3.13"])
def function(request, tmp_path_factory):
    if interpreters.find(request.param) is None:
        pytest.skip(f"no Python {request.param} on this machine")
    home = tmp_path_factory.mktemp("processor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp_path_factory.getbasetemp() / "data"))
        with running(home, HANDLER, version=request.param) as one:
            yield one


def test_a_request_as_cvat_sends_it(function):
    data = bytes(300_000)
    body = {"threshold": 0.3, "image": base64_of(data), "pos_points": [[1, 2]]}
    assert function.call(body) == {
        "size": 300_000,
        "fields": {"threshold": 0.3, "pos_points": [[1, 2]]},
        "parsed": False,
        "path": [],
        "threshold": 0.3,
    }


def test_an_image_as_the_body(function):
    answer = function.send(b"\xff\xd8\xff" + bytes(2_000_000), content_type="image/jpeg")
    assert answer.status == 200
    assert json.loads(answer.body)["size"] == 2_000_003


def test_a_callers_mistake(function):
    answer = function.send("{}", content_type="application/json")
    assert answer.status == 400
    assert '"image" is missing' in json.loads(answer.body)["error"]


def test_processes_that_a_handler_starts_have_it_too(function):
    assert function.call(path="/child")["points"] == [1, 2, 3, 4]
