"""CVAT accepts the shapes of the builders, for all types of numbers."""

import json
import math

import nuclio_sdk
import numpy as np
import pytest

from fnbuild import vision
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.shapes import bounding_box
from fnbuild.function.labels import Label

SIZE = (100, 80)
NAMES = ("rectangle", "ellipse", "polygon", "polyline", "points", "mask", "tag")
LABELS = [
    *(Label(name, name) for name in NAMES),
    Label("person", "skeleton", sublabels=(Label("nose", "points"), Label("ear", "points"))),
]
CORNERS = [(10, 10), (50.5, 12), (30, 60)]


def reading_of(*shapes):
    """Return the shapes as CVAT reads them, if it has no problem with them."""
    reading = read_reply("detector", json.dumps(shapes, allow_nan=False), LABELS, SIZE)
    assert [str(problem) for problem in reading.diagnostics] == []
    assert len(reading.shapes) == len(shapes)
    return reading.shapes


def blob():
    pixels = np.zeros((80, 100), bool)
    pixels[20:40, 30:70] = True
    pixels[25, 35] = False
    return pixels


def test_every_kind_is_accepted():
    shapes = reading_of(
        vision.rectangle("rectangle", (10, 20, 30, 40), 0.9),
        vision.rectangle("rectangle", (10, 20, 30, 40), 0.9, rotation=-30),
        vision.ellipse("ellipse", (50, 40), (20, 10), 0.8, rotation=45),
        vision.polygon("polygon", CORNERS, 0.7),
        vision.polyline("polyline", CORNERS, 0.6),
        vision.points("points", [(5, 6)], 0.5),
        vision.mask("mask", blob(), 0.4),
        vision.skeleton("person", {"nose": (50, 20), "ear": (60, 25)}, 0.3, hidden=["ear"]),
        vision.tag("tag", 0.2),
    )
    assert [shape.confidence for shape in shapes] == [0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    assert shapes[1].rotation == 330
    assert bounding_box(shapes[2]) == (30, 30, 70, 50)
    assert shapes[3].pairs == CORNERS
    assert [element.outside for element in shapes[7].elements] == [False, True]


def test_a_mask_is_cropped_to_its_box():
    (shape,) = reading_of(vision.mask("mask", blob()))
    assert (shape.mask.left, shape.mask.top, shape.mask.right, shape.mask.bottom) == (
        30,
        20,
        69,
        39,
    )
    assert shape.mask.area == 799
    assert np.array_equal(
        np.frombuffer(shape.mask.bits, np.uint8).reshape(20, 40), blob()[20:40, 30:70]
    )
    assert shape.confidence is None


@pytest.mark.parametrize(
    "pixels",
    [
        blob().astype(np.uint8) * 255,
        blob().astype(np.float32) * 0.3,
        blob().tolist(),
        [list(map(int, row)) for row in blob()],
    ],
    ids=["0 and 255", "floats", "lists", "lists of int"],
)
def test_masks_of_every_type_are_the_same(pixels):
    assert vision.mask("mask", pixels) == vision.mask("mask", blob())


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), [[0, 0], [0, 0]], []])
def test_an_empty_mask_is_not_a_shape(pixels):
    with pytest.raises(ValueError, match="no pixel"):
        vision.mask("mask", np.asarray(pixels) if not isinstance(pixels, list) else pixels)


def test_a_mask_has_two_dimensions():
    with pytest.raises(ValueError, match="not 3 dimensions"):
        vision.mask("mask", np.ones((1, 4, 4)))


def test_numbers_of_libraries_become_plain_numbers():
    expected = vision.polygon("polygon", CORNERS, 0.75)
    array = np.array(CORNERS, np.float32)
    for corners in (array, array.ravel(), array.tolist(), list(array), list(array.ravel())):
        assert vision.polygon("polygon", corners, np.float32(0.75)) == expected
    box = vision.rectangle("rectangle", np.array([1, 2, 3, 4]), np.float64(1))
    assert box == vision.rectangle("rectangle", (1, 2, 3, 4), 1)
    assert all(type(number) is float for number in box["points"])
    json.dumps(vision.mask("mask", blob(), np.float16(0.5)))


def test_tensors_become_plain_numbers():
    torch = pytest.importorskip("torch")
    box = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = vision.rectangle("rectangle", (1, 2, 3, 4), 0.5)
    assert vision.rectangle("rectangle", box, torch.tensor(0.5)) == expected
    assert vision.rectangle("rectangle", list(box), 0.5) == expected
    assert vision.mask("mask", torch.from_numpy(blob())) == vision.mask("mask", blob())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_write(number):
    with pytest.raises(ValueError, match="not a finite number"):
        vision.rectangle("rectangle", (1, 2, 3, number))
    with pytest.raises(ValueError, match="not a finite number"):
        vision.tag("tag", number)


@pytest.mark.parametrize(
    ("build", "numbers"),
    [
        (vision.rectangle, [1, 2, 3]),
        (vision.rectangle, [1, 2, 3, 4, 5, 6]),
        (vision.polygon, [1, 2, 3, 4]),
        (vision.polygon, [1, 2, 3, 4, 5, 6, 7]),
        (vision.polyline, [1, 2]),
        (vision.points, []),
    ],
)
def test_too_few_and_too_many_coordinates(build, numbers):
    with pytest.raises(ValueError, match="coordinates are needed"):
        build("label", numbers)


def test_the_reply():
    context = nuclio_sdk.Context()
    answer = vision.reply(context, [vision.tag("tag", 1)])
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    reading_of(*json.loads(answer.body))
    refused = vision.reply(context, {"error": "no image"}, 400)
    assert (refused.status_code, json.loads(refused.body)) == (400, {"error": "no image"})
