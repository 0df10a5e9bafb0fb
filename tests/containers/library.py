"""Base images for the functions of the library, and checks of their replies to pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fnbuild.cvat.replies import ParsedReply, read_reply
from fnbuild.cvat.request import build_request, read_image
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from fnbuild.function.types import Function
from fnbuild.runtime.http.client import request
from tests.containers import bases
from tests.engine import PYTHON_IMAGE
from tests.functions.conftest import write_mobilenet_weights
from tests.functions.test_opencv import ASTRONAUT, BUS_LEFT, likeness
from tests.functions.test_shapes import file_of, hits, picture

Photo = Callable[[str], Path]
Invoke = Callable[..., ParsedReply]


def _face(photo: Photo, invoke: Invoke) -> None:
    (face,) = invoke(read_image(photo("astronaut.png"))).shapes
    assert likeness(face.points, ASTRONAUT) > 0.7


def _people(photo: Photo, invoke: Invoke) -> None:
    shapes = invoke(read_image(photo("bus.jpg"))).shapes
    assert max(likeness(each.points, BUS_LEFT) for each in shapes) > 0.6


def _shapes(_: Photo, invoke: Invoke) -> None:
    random = np.random.default_rng(2028)
    correct = total = 0
    for _ in range(12):
        image, shapes = picture(random, 320, 240)
        correct += hits(invoke(file_of(image)).shapes, shapes)
        total += len(shapes)
    assert correct / total > 0.8


def _classes(photo: Photo, invoke: Invoke) -> None:
    # One of three labels has a probability of at least a third, whatever the weights are.
    tags = invoke(read_image(photo("astronaut.png")), threshold=0.3).shapes
    assert {tag.label for tag in tags} <= {"plastic_bag", "lemon", "acorn"}
    assert tags


def _cut_out(photo: Photo, invoke: Invoke) -> None:
    (shape,) = invoke(read_image(photo("coffee.png")), boxes=[(130, 40, 470, 350)]).shapes
    assert shape.mask is not None
    assert shape.mask.area > 30_000


def _followed(photo: Photo, invoke: Invoke) -> None:
    first = cv2.imread(str(photo("astronaut.png")))
    second = cv2.warpAffine(first, np.array([[1.0, 0, 9], [0, 1, 4]]), (512, 512))
    left, top, right, bottom = ASTRONAUT
    states = invoke(file_of(first[:, :, ::-1]), boxes=[ASTRONAUT]).states
    (box,) = invoke(file_of(second[:, :, ::-1]), states=states).shapes
    assert likeness(box.points, (left + 9, top + 4, right + 9, bottom + 4)) > 0.9


@dataclass(frozen=True)
class Case:
    """A base image for a function that is available here, and the check of its replies."""

    base: Callable[[Function], str]
    check: Callable[[Photo, Invoke], None]


def _python(function: Function) -> str:
    # Functions with the same line share a layer, which is kept until the last one is removed.
    bases.with_lines_of(function)
    return PYTHON_IMAGE


def _torch(_: Function) -> str:
    return bases.with_torch()


CASES = {
    "face-haar": Case(_python, _face),
    "people-hog": Case(_python, _people),
    "grabcut": Case(_python, _cut_out),
    "optical-flow": Case(_python, _followed),
    # The image already has torch, which its own line installs.
    "shapes": Case(_torch, _shapes),
    "mobilenet": Case(_torch, _classes),
}


def source_options(folder: Path, copy: Path) -> tuple[str | Path, ...]:
    """Return the options with the function's folder; mobilenet is a copy with random weights."""
    if folder.name != "mobilenet":
        return "--path", folder
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "weights").mkdir()
    write_mobilenet_weights(copy / "weights")
    return "--path", copy, "--env", "STORAGE_URI=file:///opt/nuclio/weights"


def check(folder: Path, url: str, photo: Photo) -> None:
    """Check the replies of the function at `url` to pictures and to invalid requests."""
    function = load_function(folder).function
    kind = labels.function_kind(function)
    assert kind
    options = {"shape_types": labels.tracked_shape_types(function)} if kind == "tracker" else {}

    def invoke(image: Any, **arguments: Any) -> ParsedReply:
        image_request = build_request(kind, image, **options, **arguments)
        headers = {"Content-Type": image_request.content_type}
        answer = request("POST", url, "/", image_request.body, headers)
        assert answer.status == 200, answer.body
        reply = read_reply(
            kind,
            answer.body,
            labels.function_labels(function),
            image_request.image.size,
            image_request,
        )
        assert [str(problem) for problem in reply.diagnostics] == []
        return reply

    CASES[folder.name].check(photo, invoke)
    invalid = request("POST", url, "/", b"raw", {"Content-Type": "text/plain"})
    assert invalid.status == 400
    assert json.loads(invalid.body)["error"]
