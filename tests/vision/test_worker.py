"""Handlers import fnbuild.vision, though their environment has no fnbuild."""

import json
import struct

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import running
from tests.vision.conftest import base64_of

pytestmark = pytest.mark.system

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
    if event.path == "/uncaught":
        vision.open_image(event)
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
        with running(home, HANDLER, version=request.param) as processor:
            yield processor


def test_a_request_of_cvat(function):
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


def test_an_invalid_request(function):
    answer = function.send("{}", content_type="application/json")
    assert answer.status == 400
    assert '"image" is missing' in json.loads(answer.body)["error"]


def test_processes_started_by_a_handler_can_import_it(function):
    assert function.call(path="/child")["points"] == [1, 2, 3, 4]


def test_an_image_error_that_the_handler_does_not_catch_has_its_status(function):
    head = struct.pack(">II4sIIBBBBB", 0x0D0A1A0A, 13, b"IHDR", 9000, 8000, 8, 2, 0, 0, 0)
    answer = function.send(b"\x89PNG" + head, "/uncaught", content_type="image/png")
    assert answer.status == 413
    assert answer.header("content-type") == "application/json"
    text = json.loads(answer.body)["error"]
    assert "9000 x 8000 = 72000000 pixels, more than the limit of 67108864" in text
    assert "FNBUILD_MAX_PIXELS" in text
    function.await_record("answered 413: the image has 9000 x 8000", level="warn")
    answer = function.send(b"{}", "/uncaught", content_type="application/json")
    assert (answer.status, json.loads(answer.body)) == (
        400,
        {"error": 'the key "image" is missing: the image file in base64'},
    )
