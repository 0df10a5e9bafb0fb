"""A client of a function in this process."""

import gc
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fnbuild.testing import Client

ROOT = Path(__file__).resolve().parents[2]
FACE = ROOT / "functions/opencv/face-haar"


def write(folder, main, kind="detector", spec='[{"name": "cat"}]', more="", **modules):
    folder.mkdir()
    (folder / "function.yaml").write_text(
        f"metadata:\n  name: {folder.name}\n  annotations:\n    type: {kind}\n    spec: '{spec}'\n"
        f"spec:\n  runtime: python:3.11\n  handler: main:handler\n{more}"
    )
    for name, text in {"main": main, **modules}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_test_of_a_function_has_three_lines(photo):
    (face,) = Client(FACE).detect(photo("astronaut.png"))
    assert (face.label, face.type) == ("face", "rectangle")
    assert face.confidence > 0.8


def test_images_of_every_form(photo):
    client = Client(FACE)
    path = photo("astronaut.png")
    image = Image.open(path).convert("RGB")
    expected = client.detect(path)
    for form in (str(path), path.read_bytes(), image, np.asarray(image)):
        assert client.detect(form) == expected
    assert client.detect(image, threshold=1.0) == []


def test_functions_with_equal_names_of_modules(tmp_path):
    main = """
import model

def handler(context, event):
    import late
    return [model.NAME, late.NAME]
"""
    clients = [
        Client(write(tmp_path / name, main, model=f"NAME = '{name}'", late=f"NAME = '{name}2'"))
        for name in ("first", "second")
    ]
    before = list(sys.path), Path.cwd()
    assert [client.call({}).json() for client in clients * 2] == [
        ["first", "first2"],
        ["second", "second2"],
    ] * 2
    assert (list(sys.path), Path.cwd()) == before
    assert not {"model", "late", "main"} & set(sys.modules)


def test_the_environment_of_the_function(tmp_path):
    main = """
import os
from pathlib import Path

def init_context(context):
    context.user_data.start = dict(os.environ)

async def handler(context, event):
    start = context.user_data.start
    names = ("COLOUR", "SIZE", "NUCLIO_FUNCTION_NAME")
    return {"env": [start[name] for name in names], "file": Path("function.yaml").exists(),
            "path": event.path, "body": event.body.decode(), "method": event.method}
"""
    more = "  env:\n    - {name: COLOUR, value: red}\n    - {name: SIZE, value: '1'}\n"
    client = Client(write(tmp_path / "f", main, more=more), env={"SIZE": "2"})
    reply = client.call(b"text", path="/a", content_type="text/plain", method="PUT")
    assert reply.json() == {
        "env": ["red", "2", "f"], "file": True, "path": "/a", "body": "text", "method": "PUT",
    }  # fmt: skip
    assert "COLOUR" not in os.environ


def test_the_event_loop_of_an_async_handler_is_closed_with_the_client(tmp_path):
    main = """
import asyncio

async def handler(context, event):
    context.user_data.loop = asyncio.get_running_loop()
    return "done"
"""
    client = Client(write(tmp_path / "f", main))
    assert client.call({}).body == b"done"
    loop = client.context.user_data.loop
    assert not loop.is_closed()
    del client
    gc.collect()
    assert loop.is_closed()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///srv/models/cats", "/srv/models/cats"),
        ("/srv/models/cats", "/srv/models/cats"),
        ("s3://models/cats", "/mnt/models"),
    ],
)
def test_the_handler_gets_the_path_of_its_model(tmp_path, uri, path):
    main = "import os\n\ndef handler(context, event):\n    return os.environ['STORAGE_URI']\n"
    folder = write(tmp_path / "f", main)
    assert Client(folder, env={"STORAGE_URI": uri}).call({}).body.decode() == path


DETECTOR = """
from fnbuild import vision

class Sample(vision.Detector):
    def predict_batch(self, images, thresholds):
        if images[0].max() > 200:
            raise RuntimeError("too bright")
        return [vision.Detections([[0, 0, 5, len(images)]], [0]) for image in images]

init_context, handler = vision.export(Sample)
"""


@pytest.mark.parametrize("batch", ["", "    web: {kind: http, batch: {mode: enable}}"])
def test_batches(tmp_path, batch):
    more = f"  triggers:\n{batch}\n" if batch else ""
    client = Client(write(tmp_path / "f", DETECTOR, more=more))
    dark = np.zeros((9, 9, 3), np.uint8)
    (shape,) = client.detect(dark)
    assert shape.points == (0, 0, 5, 1)
    with pytest.raises((RuntimeError, AssertionError), match="too bright"):
        client.detect(dark + 255)
    replies = client.call_batch([{}, {"image": "***"}])
    assert [reply.status for reply in replies] == [400, 400]


def test_an_invalid_reply_fails_the_test(tmp_path):
    main = "def handler(context, event):\n    return [{'label': 'dog', 'type': 'rectangle'}]\n"
    client = Client(write(tmp_path / "f", main))
    with pytest.raises(AssertionError, match="points"):
        client.detect(np.zeros((9, 9, 3), np.uint8))


def test_an_error_fails_the_test(tmp_path):
    client = Client(write(tmp_path / "f", DETECTOR))
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(AssertionError, match=r"answered 400: .*threshold"):
        client.detect(image, threshold=7)
    main = """
class Refused(Exception):
    reply_status = 422

def handler(context, event):
    raise Refused("no")
"""
    refusing = Client(write(tmp_path / "g", main))
    assert (refusing.call({}).status, refusing.call({}).json()) == (422, {"error": "no"})


def test_interactors_trackers_and_re_identification(photo, tmp_path):
    image = np.full((300, 400, 3), (40, 120, 60), np.uint8)
    image[90:210, 140:260] = (200, 40, 40)
    client = Client(ROOT / "functions/opencv/grabcut")
    (mask,) = client.interact(image, positive=[(200, 150)], box=(120, 70, 280, 230))
    assert abs(mask.mask.area - 120 * 120) < 500
    tracker = Client(ROOT / "functions/opencv/optical-flow")
    cat = Image.open(photo("chelsea.png")).convert("RGB")
    frames = [cat.crop((8 * step, 0, 8 * step + 380, 260)) for step in range(3)]
    shapes = tracker.track(frames, (130, 85, 200, 135))
    assert [round(shape.points[0] / 8) for shape in shapes] == [16, 15, 14]
    main = """
from fnbuild import vision

class Sample(vision.ReId):
    def embed(self, image, boxes):
        return [vision.crop(image, box).reshape(-1, 3).mean(0) - 127 for box in boxes]

init_context, handler = vision.export(Sample)
"""
    reid = Client(write(tmp_path / "r", main, kind="reid"))
    boxes = [(140, 90, 260, 210), (0, 0, 50, 50)]
    assert reid.match(image, boxes, image, boxes[::-1], max_distance=500) == [1, 0]


def test_the_context_has_what_was_loaded(tmp_path):
    client = Client(write(tmp_path / "f", DETECTOR))
    assert client.context.user_data.function.labels == ["cat"]
    assert json.loads(client.function.metadata.annotations["spec"]) == [{"name": "cat"}]
