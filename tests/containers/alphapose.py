"""A keypoint detector as its author published it, on an image with the layout of its base image.

Its model needs a GPU and files that are no longer available. The code here replaces it, with
libraries of the same age.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request
from tests import locks
from tests.builder.image.bases import docker, image_id
from tests.conftest import ROOT
from tests.containers import bases

CONFIG = ROOT / "tests/data/functions/alphapose-tab.yaml"
# The names in its function.yaml.
BASE, IMAGE = "jwher/alphapose:v1", "jwher/alphapose:nuclio"
PYTHON = "/root/miniconda3/envs/alphapose/bin/python"

MAIN = """\
import base64
import getpass
import io
import json
import os
import sys

import numpy
from PIL import Image

from model_handler import ModelHandler


def init_context(context):
    context.user_data.model = ModelHandler()
    context.logger.info("the model is loaded")


def handler(context, event):
    picture = Image.open(io.BytesIO(base64.b64decode(event.body["image"])))
    points = context.user_data.model.handle(numpy.array(picture.convert("RGB")))
    headers = {
        "X-Python": "%s %d.%d" % ((sys.executable,) + sys.version_info[:2]),
        "X-Numpy": numpy.__version__,
        "X-Place": "%s %s" % (getpass.getuser(), os.getcwd()),
    }
    return context.Response(
        body=json.dumps(points), headers=headers, content_type="application/json", status_code=200
    )
"""

MODEL = '''\
import numpy

NAMES = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow"
    " left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()


class ModelHandler:
    """One point for each name: the bright places of the picture, from top to bottom."""

    def handle(self, image):
        rows, columns = numpy.nonzero(image.mean(axis=2) > 128)
        order = numpy.argsort(rows, kind="stable")
        picked = order[numpy.linspace(0, len(order) - 1, len(NAMES)).astype(int)]
        return [
            {
                "confidence": "0.9",
                "label": name,
                "points": [float(columns[i]), float(rows[i])],
                "type": "points",
            }
            for name, i in zip(NAMES, picked)
        ]
'''


def write(folder: Path) -> Path:
    """Write the function's folder, including its tab, and return the path of its configuration."""
    folder.mkdir()
    config = folder / "function.yaml"
    config.write_bytes(CONFIG.read_bytes())
    (folder / "main.py").write_text(MAIN)
    (folder / "model_handler.py").write_text(MODEL)
    return config


@contextmanager
def names() -> Iterator[None]:
    """Name the base image as its author did, and reserve the name of the function's image."""
    with locks.exclusive("alphapose"):
        if image_id(BASE) or image_id(IMAGE):
            pytest.skip(f"a real {BASE} exists here")
        docker("tag", bases.conda(), BASE)
        try:
            yield
        finally:
            for name in (IMAGE, BASE):
                if image_id(name):
                    docker("rmi", "--force", name)


def _bar() -> bytes:
    """Return a bright bar from (50, 20) to (60, 180) on black."""
    image = Image.new("RGB", (120, 200))
    image.paste((255, 255, 255), (50, 20, 60, 180))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def invoke(url: str, folder: Path) -> Mapping[str, str]:
    """Send a picture and check the keypoints; return the reply's headers, in lower case."""
    picture_request = build_request("detector", _bar())
    answer = request(
        "POST", url, "/", picture_request.body, {"Content-Type": picture_request.content_type}
    )
    assert answer.status == 200, answer.body
    reply = read_reply(
        "detector",
        answer.body,
        labels.function_labels(load_function(folder).function),
        picture_request.image.size,
    )
    assert [str(problem) for problem in reply.diagnostics] == []
    assert len(reply.shapes) == 17
    assert all(50 <= x < 60 and 20 <= y < 180 for x, y in (shape.points for shape in reply.shapes))
    return {name.lower(): value for name, value in answer.headers.items()}
