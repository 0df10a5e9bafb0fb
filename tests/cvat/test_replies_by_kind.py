"""Replies of interactors, trackers and re-identification."""

import io
import json

import pytest
from PIL import Image

from fnbuild.cvat.replies import EMBEDDING_SIZE, read_reply
from fnbuild.cvat.request import CvatRequest, upright_image
from fnbuild.cvat.shapes import Mask, Shape

SIZE = (100, 80)


def only(problems):
    assert len(problems) == 1, [str(each) for each in problems]
    return problems[0]


def interact(reply):
    return read_reply("interactor", json.dumps(reply), [], SIZE)


def mask_of(points, **more):
    return {"shapes": [{"type": "mask", "points": points, **more}]}


def test_an_interactor_replies_with_runs():
    attributes = [{"spec_id": 0, "value": "0.93"}]
    reading = interact(mask_of([1, 3, 2, 10, 20, 12, 21], attributes=attributes))
    assert reading.diagnostics == ()
    (shape,) = reading.shapes
    assert shape.mask == Mask(10, 20, 12, 21, b"\x00\x01\x01\x01\x00\x00")
    assert shape.confidence == 0.93
    assert interact({"shapes": []}).diagnostics == ()


def test_an_older_interactor_replies_with_rows_of_the_image():
    image = [[0] * 100 for _ in range(80)]
    image[5][7] = image[5][8] = image[6][9] = 255
    reading = interact({"mask": image})
    assert reading.diagnostics == ()
    assert reading.shapes[0].mask == Mask(7, 5, 9, 6, b"\x01\x01\x00\x00\x00\x01")


@pytest.mark.parametrize(
    ("reply", "path", "message"),
    [
        ([], "", "with an object"),
        ({"polygon": []}, "", "keys found: polygon"),
        ({"shapes": None}, "shapes", "not null"),
        ({"mask": []}, "mask", "page breaks"),
        ({"mask": [[]]}, "mask", "0 x 1"),
        ({"mask": [[0] * 100] * 79}, "mask", "100 x 79, the image is 100 x 80"),
        ({"mask": [[0] * 100, [0]]}, "mask", "one length"),
        ({"mask": [[0, 1] * 50] * 79 + [[0.1, 0.7] * 50]}, "mask[79]", "levels of grey"),
        (mask_of([0, 1, 1, 0, 1, 1, 2, 2]), "shapes[0].points", "2 pixels of a box of 2 x 2"),
        (mask_of([-1, 5, 1, 1, 2, 2]), "shapes[0].points", "whole number from 0 on"),
        (mask_of([4, 1, 1, 200, 2]), "shapes[0].points", "leaves the image"),
        (mask_of(None), "shapes[0].points", "flat list"),
        (
            mask_of([0, 1, 1, 1, 1, 1], attributes=[{"spec_id": 0, "value": 0.9}]),
            "shapes[0].attributes[0].value",
            "a string",
        ),
        ({"blob": "***"}, "blob", "base64"),
        ({"blob": "AAAA"}, "blob", f"{EMBEDDING_SIZE}"),
    ],
)
def test_invalid_interactor_replies(reply, path, message):
    problem = only(interact(reply).violations)
    assert problem.path == path
    assert message in str(problem)


def test_only_masks_survive_in_an_interactors_reply():
    reading = interact({"shapes": [{"type": "polygon", "points": [1, 2, 3, 4, 5, 6]}]})
    assert "keeps only masks" in str(only(reading.diagnostics))
    assert reading.shapes[0].type == "polygon"


def sent(kind, *counts, continues_track=False):
    out = io.BytesIO()
    Image.new("L", SIZE).save(out, "PNG")
    return CvatRequest(
        kind, b"", upright_image(out.getvalue()), counts=counts, continues_track=continues_track
    )


@pytest.mark.parametrize(
    ("reply", "path", "message"),
    [
        ({}, "", "with a list"),
        ([0], "", "1 entries for 2 boxes"),
        ([0, 3], "[1]", "not a box of the second image"),
        ([0, -2], "[1]", "not a box"),
        ([0, "1"], "[1]", "whole number"),
        ([0, 0.5], "[1]", "whole number"),
    ],
)
def test_invalid_reid_replies(reply, path, message):
    problem = only(read_reply("reid", reply, [], SIZE, sent("reid", 2, 3)).violations)
    assert problem.path == path
    assert message in str(problem)


def test_re_identification():
    reading = read_reply("reid", b"[2, -1]", [], SIZE, sent("reid", 2, 3))
    assert reading.matches == (2, -1)
    assert reading.diagnostics == ()
    doubled = read_reply("reid", b"[2, 2]", [], SIZE, sent("reid", 2, 3))
    assert "matched already by entry 0" in str(only(doubled.diagnostics))


def test_a_tracker_may_omit_shapes_only_at_the_start():
    assert read_reply("tracker", {"states": [1]}, [], SIZE, sent("tracker", 1)).diagnostics == ()
    later = read_reply(
        "tracker", {"states": [1]}, [], SIZE, sent("tracker", 1, continues_track=True)
    )
    assert only(later.violations).path == "shapes"


def test_the_shapes_of_a_tracker():
    reply = {
        "states": [1, 2, 3],
        "shapes": [
            [1, 2, 30, 40],
            [10, 10, 20, 5, 30, 10, 20, 15],
            {"type": "polygon", "points": [1, 2, 3, 4, 5, 6]},
        ],
    }
    reading = read_reply("tracker", reply, [], SIZE, sent("tracker", 3))
    assert reading.diagnostics == ()
    assert reading.states == (1, 2, 3)
    assert reading.shapes == (
        Shape("rectangle", (1, 2, 30, 40)),
        Shape("rectangle", (10, 5, 30, 15), index=1),
        Shape("polygon", (1, 2, 3, 4, 5, 6), index=2),
    )


@pytest.mark.parametrize(
    ("reply", "path", "message"),
    [
        ([], "", "with an object"),
        ({"shapes": [[1, 2, 3, 4]]}, "states", "CVAT fails"),
        ({"states": [1, 2], "shapes": [[1, 2, 3, 4]]}, "states", "2 entries for 1"),
        ({"states": [1], "shapes": []}, "shapes", "0 entries for 1"),
        ({"states": [1], "shapes": [[1, 2, 3]]}, "shapes[0]", "3 numbers"),
        ({"states": [1], "shapes": [{"type": "tag", "points": []}]}, "shapes[0].type", "tracked"),
        (
            {"states": [1], "shapes": [{"type": "mask", "points": []}]},
            "shapes[0].points",
            "run lengths",
        ),
    ],
)
def test_invalid_tracker_replies(reply, path, message):
    problems = read_reply("tracker", reply, [], SIZE, sent("tracker", 1)).violations
    assert problems[0].path == path
    assert message in str(problems[0])


def test_a_lost_object_is_a_warning():
    reading = read_reply("tracker", {"states": [1], "shapes": [None]}, [], SIZE, sent("tracker", 1))
    assert reading.violations == ()
    assert only(reading.diagnostics).path == "shapes[0]"
