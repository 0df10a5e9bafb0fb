"""The siamese tracker follows parts of photographs that move and grow by known amounts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.library import importable_packages
from tests.functions.test_opencv import likeness
from tests.functions.test_shapes import file_of

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/onnx/siamese"
SHAPE_TYPES = labels.tracked_shape_types(load_function(FOLDER).function)
FACE = (180, 60, 275, 175)


@pytest.fixture(scope="module")
def tracker() -> Iterator[Handler]:
    """The function with onnxruntime from an environment of its own."""
    with importable_packages():
        yield Handler(FOLDER)


def ask(function: Handler, image: Any, **options: Any) -> Any:
    """Return CVAT's reading of a reply that has no problems."""
    sent = build_request("tracker", file_of(image), shape_types=SHAPE_TYPES, **options)
    status, content = function(sent.body)
    assert status == 200, content
    reply = read_reply("tracker", content, [], sent.image.size, sent)
    assert [str(problem) for problem in reply.diagnostics] == []
    return reply


@pytest.fixture(scope="module")
def astronaut(photo: Any) -> Any:
    return cv2.imread(str(photo("astronaut.png")))[:, :, ::-1]


def moved(image: Any, shift: tuple[float, float], growth: float) -> Any:
    """Return the image moved and grown around the middle of the face."""
    matrix = cv2.getRotationMatrix2D((227.5, 117.5), 0, growth)
    matrix[:, 2] += shift
    return cv2.warpAffine(image, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize(
    ("shift", "growth"),
    [((0, 0), 1.0), ((9, 4), 1.0), ((-10, 12), 1.0), ((0, 0), 1.03), ((4, 1), 0.975)],
    ids=["still", "right", "down left", "nearer", "farther"],
)
def test_a_box_follows_the_face(tracker, astronaut, shift, growth):
    states = ask(tracker, astronaut, boxes=[FACE]).states
    for i in range(1, 11):
        offset = shift[0] * i, shift[1] * i
        reply = ask(tracker, moved(astronaut, offset, growth**i), states=states)
        states = reply.states
        middle = np.array([227.5, 117.5]) + offset
        half = np.array([47.5, 57.5]) * growth**i
        expected = np.clip([*(middle - half), *(middle + half)], 0, 512)
        assert likeness(reply.shapes[0].points, expected) > 0.6, (i, reply.shapes, expected)
    if growth == 1:
        assert likeness(reply.shapes[0].points, expected) > 0.75


def test_two_objects_that_cross(tracker, photo):
    ground = cv2.resize(cv2.imread(str(photo("brick.png"))), (640, 480)) // 3
    patches = [
        cv2.resize(cv2.imread(str(photo(name))), (90, 80)) for name in ("chelsea.png", "rocket.jpg")
    ]

    def places(i: int) -> list[tuple[int, int]]:
        return [(40 + 12 * i, 160), (500 - 12 * i, 260)]

    def frame(i: int) -> Any:
        image = ground.copy()
        for patch, (x, y) in zip(patches, places(i), strict=True):
            image[y : y + 80, x : x + 90] = patch
        return image[:, :, ::-1]

    def boxes(i: int) -> list[tuple[int, ...]]:
        return [(x, y, x + 90, y + 80) for x, y in places(i)]

    states = ask(tracker, frame(0), boxes=boxes(0)).states
    for i in range(1, 30):
        reply = ask(tracker, frame(i), states=states)
        states = reply.states
        for shape, box in zip(reply.shapes, boxes(i), strict=True):
            assert likeness(shape.points, box) > 0.5, (i, shape, box)


def test_a_polygon_moves_with_its_box(tracker, astronaut):
    corners = np.array([[200, 70], [262, 75], [265, 130], [232, 168], [195, 140]], float)
    shape = {"type": "polygon", "points": corners.ravel().tolist()}
    body = json.loads(build_request("tracker", file_of(astronaut)).body)
    status, content = tracker({**body, "shapes": [shape], "states": []})
    assert status == 200, content
    reply = ask(tracker, moved(astronaut, (8, 5), 1), states=content["states"])
    points = np.array(reply.shapes[0].pairs)
    assert np.abs(points - corners - (8, 5)).max() < 6


def test_states_are_small_json(tracker, photo):
    image = cv2.resize(cv2.imread(str(photo("bus.jpg"))), None, fx=3, fy=3)
    states = ask(tracker, image, boxes=[(144, 1200, 735, 2700)]).states
    assert len(json.dumps(states)) < 20_000


@pytest.mark.parametrize("size", [(1, 1), (1, 600), (600, 1), (2, 3)])
def test_tiny_pictures_do_not_fail(tracker, size):
    image = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    states = ask(tracker, image, boxes=[(0, 0, size[1], size[0])]).states
    assert len(ask(tracker, image, states=states).shapes) == 1


@pytest.mark.usefixtures("tracker")
def test_an_object_in_an_image_wider_than_opencv_takes_is_cut_out() -> None:
    module = import_module_of(FOLDER, "tracker")
    wide = np.random.default_rng(1).integers(0, 255, (90, 33_000, 3), np.uint8)
    for side in (30.0, 70.0):
        part = module.square(wide, np.array([32_800.0, 40.0]), side, 127)
        other = module.square(wide[:, 32_000:], np.array([800.0, 40.0]), side, 127)
        assert np.abs(part - other).max() < 0.01
