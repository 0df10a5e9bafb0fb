"""Optical flow follows parts of a photograph that move, grow and turn by known amounts."""

import io
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests.functions.conftest import import_module_of
from tests.functions.test_opencv import likeness

pytestmark = pytest.mark.system

FOLDER = Path(__file__).resolve().parents[2] / "functions" / "opencv" / "optical-flow"
FACE = (180, 60, 275, 175)
STEPS = 12


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def turned(image, motion):
    height, width = image.shape[:2]
    return cv2.warpAffine(image, motion, (width, height), borderMode=cv2.BORDER_REFLECT)


def motions(*, shift=(0, 0), growth=1.0, degrees=0.0, middle=(227, 117)):
    """Return the transformation of each frame relative to the first one: 2 x 3 matrices."""
    for i in range(1, STEPS + 1):
        motion = cv2.getRotationMatrix2D(middle, -degrees * i, growth**i)
        motion[:, 2] += np.array(shift) * i
        yield motion


def ask(function, image, **options):
    """Return CVAT's reading of a reply that has no problems, and the reply."""
    kinds = labels.tracked_shape_types(load_function(FOLDER).function)
    sent = build_request("tracker", png(image), shape_types=kinds, **options)
    status, content = function(sent.body)
    assert status == 200, content
    reading = read_reply("tracker", content, [], sent.image.size, sent)
    assert reading.diagnostics == ()
    return reading


@pytest.fixture
def flow(handler):
    return handler(FOLDER)


@pytest.fixture
def astronaut(photo):
    return cv2.imread(str(photo("astronaut.png")))


def start_with(function, image, shape):
    """The states after an image and a shape of any type."""
    body = json.loads(build_request("tracker", png(image)).body)
    status, content = function({**body, "shapes": [shape], "states": []})
    assert status == 200, content
    return content["states"]


@pytest.mark.parametrize(
    "motion",
    [
        {"shift": (9, 4)},
        {"shift": (-11, 12)},
        {"growth": 1.03},
        {"growth": 0.97, "shift": (4, 0)},
        {"shift": (3.3, -2.7), "growth": 1.01},
    ],
    ids=["right", "down left", "nearer", "farther", "a bit of all"],
)
def test_a_box_follows_the_face(flow, astronaut, motion):
    states = ask(flow, astronaut, boxes=[FACE]).states
    for matrix in motions(**motion):
        reading = ask(flow, turned(astronaut, matrix), states=states)
        states = reading.states
        middle = matrix[:, :2] @ (227.5, 117.5) + matrix[:, 2]
        half = np.array([47.5, 57.5]) * math.hypot(matrix[0, 0], matrix[1, 0])
        expected = np.clip([*(middle - half), *(middle + half)], 0, 512)
        assert likeness(reading.shapes[0].points, expected) > 0.85, (matrix, reading.shapes)


def test_a_polygon_turns_with_the_face(flow, astronaut):
    corners = np.array([[200, 70], [262, 75], [265, 130], [232, 168], [195, 140]], float)
    states = start_with(flow, astronaut, {"type": "polygon", "points": corners.ravel().tolist()})
    for matrix in motions(degrees=4, shift=(5, 3)):
        reading = ask(flow, turned(astronaut, matrix), states=states)
        states = reading.states
        expected = corners @ matrix[:, :2].T + matrix[:, 2]
        points = np.array(reading.shapes[0].pairs)
        assert np.abs(points - expected).max() < 4, (points, expected)


def test_a_point_stays_at_the_eye(flow, astronaut):
    states = start_with(flow, astronaut, {"type": "points", "points": [207, 113]})
    for matrix in motions(shift=(6, 2)):
        reading = ask(flow, turned(astronaut, matrix), states=states)
        states = reading.states
        x, y = matrix[:, :2] @ (207, 113) + matrix[:, 2]
        (point,) = reading.shapes[0].pairs
        assert abs(point[0] - x) < 2.5
        assert abs(point[1] - y) < 2.5


def test_two_shapes_move_independently(flow, photo):
    ground = cv2.resize(cv2.imread(str(photo("brick.png"))), (640, 480)) // 3
    patches = [
        cv2.resize(cv2.imread(str(photo(name))), (90, 80)) for name in ("chelsea.png", "rocket.jpg")
    ]

    def frame(i):
        image = ground.copy()
        for patch, (x, y) in zip(
            patches, ((40 + 12 * i, 60), (500 - 9 * i, 300 - 5 * i)), strict=True
        ):
            image[y : y + 80, x : x + 90] = patch
        return image

    states = ask(flow, frame(0), boxes=[(40, 60, 130, 140), (500, 300, 590, 380)]).states
    for i in range(1, 20):
        reading = ask(flow, frame(i), states=states)
        states = reading.states
        left, right = (shape.points for shape in reading.shapes)
        assert likeness(left, (40 + 12 * i, 60, 130 + 12 * i, 140)) > 0.8
        x, y = 500 - 9 * i, 300 - 5 * i
        assert likeness(right, (x, y, x + 90, y + 80)) > 0.8


def test_a_hidden_shape_stays_and_is_found_again(flow, astronaut):
    states = ask(flow, astronaut, boxes=[FACE]).states
    reading = ask(flow, np.full_like(astronaut, 90), states=states)
    assert likeness(reading.shapes[0].points, FACE) > 0.99
    (matrix, *_) = motions(shift=(10, 0))
    reading = ask(flow, turned(astronaut, matrix), states=reading.states)
    assert likeness(reading.shapes[0].points, (190, 60, 285, 175)) > 0.9


def test_a_box_that_leaves_the_image_stays_at_its_edge(flow, astronaut):
    states = ask(flow, astronaut, boxes=[FACE]).states
    for i in range(1, 30):
        image = turned(astronaut, np.array([[1, 0, -12.0 * i], [0, 1, 0]]))
        image[:, max(0, 512 - 12 * i) :] = 40
        reading = ask(flow, image, states=states)
        states = reading.states
        left, top, right, bottom = reading.shapes[0].points
        assert 0 <= left < right <= 512
        assert 0 <= top < bottom <= 512
    assert left < 40


def test_states_are_small_json(flow, photo):
    large = cv2.resize(cv2.imread(str(photo("bus.jpg"))), None, fx=3, fy=3)
    states = ask(flow, large, boxes=[(144, 1200, 735, 2700)]).states
    assert len(json.dumps(states)) < 120_000


def test_shapes_in_the_format_of_older_versions(flow, astronaut):
    body = json.loads(build_request("tracker", png(astronaut)).body)
    content = {"shapes": [list(FACE)], "states": []}
    for _ in range(2):
        _, content = flow({**body, **content})
        assert content["shapes"] == [pytest.approx(list(FACE), abs=0.5)]


@pytest.mark.parametrize("size", [(1, 1), (600, 1), (1, 600), (3, 2)])
def test_tiny_pictures_do_not_fail(flow, size):
    image = np.array(Image.effect_noise(size, 60).convert("RGB"))
    states = ask(flow, image, boxes=[(0, 0, *size)]).states
    assert len(ask(flow, image, states=states).shapes) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"shapes": [[1, 2, 3]]},
        {"shapes": [[5, 5, 1, 1]]},
        {"shapes": [None]},
        {"shapes": None},
        {"shapes": [{"type": "polygon", "points": [1, 2, 3, 4]}]},
        {"shapes": [{"type": "cuboid", "points": [1, 2, 3, 4]}]},
        {"shapes": [{"type": "points", "points": [float("inf"), 1]}]},
        {"shapes": [{"type": "rectangle", "points": "1,2,3,4"}]},
        {"shapes": [None], "states": [{"box": 1}]},
        {"shapes": [None], "states": ["x"]},
        {"shapes": [None], "states": {"type": "points"}},
        {
            "shapes": [None],
            "states": [
                {"type": "points", "points": [1, 1], "area": [0, 0, 9, 9], "patch": "aGVsbG8="}
            ],
        },
        {
            "shapes": [None],
            "states": [{"type": "points", "points": [1, 1], "area": [0, 0, 0, 9], "patch": ""}],
        },
    ],
)
def test_invalid_shapes_and_states(flow, body):
    out = io.BytesIO()
    Image.effect_noise((60, 40), 60).convert("RGB").save(out, "PNG")
    sent = json.loads(build_request("tracker", out.getvalue()).body)
    status, content = flow({**sent, **body})
    assert status == 400
    assert content["error"]


@pytest.mark.parametrize("body", [b"raw", None, [], "text", {}, {"image": "***"}])
def test_a_body_of_another_kind_is_refused(flow, body):
    status, content = flow(body)
    assert status == 400
    assert content["error"]


def test_an_object_in_an_image_wider_than_opencv_takes_is_cut_out():
    handler = import_module_of(FOLDER, "model_handler")
    wide = np.random.default_rng(1).integers(0, 255, (90, 33_000, 3), np.uint8)
    for area in ((32_700, 10, 32_900, 80), (32_500, -20, 32_990, 120)):
        near = (area[0] - 32_000, area[1], area[2] - 32_000, area[3])
        expected = handler.patch(wide[:, 32_000:], near, (40, 100))
        assert np.array_equal(handler.patch(wide, area, (40, 100)), expected)
