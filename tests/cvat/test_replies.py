"""A detector's reply; and no reply of any kind breaks the check."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fnbuild.cvat.drawing import draw_shapes
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.shapes import Mask, table_rows
from fnbuild.function.labels import Attribute, Label

SIZE = (100, 80)
LABELS = [
    Label("cat", attributes=(Attribute("age", "number", ("0", "20", "2")),)),
    Label("dog", "rectangle"),
    Label("body", "skeleton", sublabels=(Label("head", "points"), Label("foot", "points"))),
    Label(
        "sign",
        attributes=(
            Attribute("colour", "select", ("red", "blue")),
            Attribute("bent", "checkbox", ("false",)),
        ),
    ),
]


def detect(*items, labels=LABELS):
    return read_reply("detector", json.dumps(list(items)), labels, SIZE)


def only(problems):
    assert len(problems) == 1, [str(each) for each in problems]
    return problems[0]


def item(kind="rectangle", label="cat", **more):
    points = {} if kind in ("mask", "skeleton", "tag") else {"points": [1, 2, 30, 40]}
    return {"label": label, "type": kind, **points, **more}


GOOD = [
    item(),
    item(confidence="0.9", rotation=90.5, attributes=[{"name": "age", "value": "4"}]),
    item(confidence=None, group_id=3, extra={"x": 1}),
    item("ellipse"),
    item("polygon", points=[1, 2, 3, 4, 5, 6]),
    item("polyline"),
    item("points", points=[1, 2]),
    item("cuboid", points=list(range(16))),
    item("mask", mask=[0, 1, 1, 0, 10, 10, 11, 11]),
    item("mask", mask=[0, 255, 255, 0, 10, 10, 11, 11]),
    item("mask", mask=[True, False, 0, 0, 1, 0]),
    item("tag"),
    item("Tag", label="sign", attributes=[{"name": "colour", "value": "red"}]),
    item("skeleton", "body", elements=[{"label": "head", "type": "points", "points": [1, 2]}]),
]


@pytest.mark.parametrize("good", GOOD, ids=lambda g: g["type"])
def test_valid_replies_have_no_diagnostics(good):
    reading = detect(good)
    assert reading.diagnostics == ()
    assert len(reading.shapes) == 1


@pytest.mark.parametrize(
    ("items", "place", "message"),
    [
        ([item("interval", "sound", points=[0, 2])], "[0].type", "an interval of audio"),
        ([item(), item("interval", "sound"), item("interval", "sound")], "[1].type", "2 intervals"),
    ],
)
def test_intervals_have_a_warning_and_are_not_drawn(items, place, message):
    reading = detect(*items, labels=[Label("cat"), Label("sound", "interval")])
    problem = only(reading.diagnostics)
    assert (problem.severity, problem.path) == ("warning", place)
    assert message in problem.message
    assert [shape.type for shape in reading.shapes] == [each["type"] for each in items]
    assert reading.shapes[-1].summary() == "has no position on an image"
    image = io.BytesIO()
    Image.new("RGB", SIZE).save(image, "PNG")
    drawn = draw_shapes(image.getvalue(), reading.shapes[-1:], [Label("sound", "interval")]).image
    assert drawn.getcolors() == [(SIZE[0] * SIZE[1], (0, 0, 0))]


def test_a_label_of_type_interval_is_no_problem():
    assert detect(item(), labels=[Label("cat"), Label("sound", "interval")]).diagnostics == ()


BAD = [
    (item(points=[1, 2, 3]), "[0].points", "exactly 4 numbers"),
    (item(points=[1, 2, 3, 4, 5]), "[0].points", "not 5"),
    (item("ellipse", points=[1, 2]), "[0].points", "exactly 4"),
    (item("polygon", points=[1, 2, 3, 4]), "[0].points", "at least 6"),
    (item("polygon", points=[1, 2, 3, 4, 5, 6, 7]), "[0].points", "odd"),
    (item("polyline", points=[1, 2]), "[0].points", "at least 4"),
    (item("points", points=[]), "[0].points", "at least 2"),
    (item("cuboid", points=[1] * 14), "[0].points", "exactly 16"),
    (item(points=[[1, 2], [3, 4]]), "[0].points", "flat list"),
    (item(points=["1", 2, 3, 4]), "[0].points", 'the string "1"'),
    (item(points=[True, 2, 3, 4]), "[0].points", "is true"),
    (item(points=[None, 2, 3, 4]), "[0].points", "null"),
    (item(points=[float("nan"), 2, 3, 4]), "[0].points", "NaN"),
    (item(points=None), "[0].points", "not null"),
    ({"label": "cat", "type": "rectangle"}, "[0]", '"points" is missing'),
    (item(rotation=400), "[0].rotation", "0 to 360"),
    (item(rotation="90"), "[0].rotation", "0 to 360"),
    ({"type": "tag"}, "[0]", '"label" is missing'),
    ({"label": "cat"}, "[0]", '"type" is missing'),
    (item("Rectangle"), "[0].type", "not a shape type"),
    (item("tag", label=3), "[0].label", "not a number"),
    (item(attributes=None), "[0].attributes", "must be a list"),
    (item(attributes=[{"name": "age"}]), "[0].attributes[0]", '"value"'),
    (
        item(label="sign", attributes=[{"name": "colour", "value": 3}]),
        "[0].attributes[0].value",
        "CVAT fails",
    ),
    (item("mask"), "[0]", '"mask"'),
    (item("mask", mask=[1, 2, 3, 4]), "[0].mask", "4 numbers"),
    (item("mask", mask=[1, 1, 1, 10, 10, 11, 11]), "[0].mask", "3 pixels for a box of 2 x 2 = 4"),
    (item("mask", mask=[0.1, 0.2, 0, 0, 10, 10, 11, 11]), "[0].mask", "2 levels of grey"),
    (item("mask", mask=[1, 99, 79, 100, 79]), "[0].mask", "leaves the image"),
    (item("mask", mask=[1, 9, 9, 8, 9]), "[0].mask", "right below left"),
    (item("mask", mask=[1, 1, 0.5, 1, 1, 1]), "[0].mask", "whole numbers"),
    (item("mask", mask=[[0, 1], [1, 0]]), "[0].mask", "list of rows"),
    (item("mask", mask=["1", 0, 0, 0, 0]), "[0].mask", "a string"),
    (item("skeleton", "body"), "[0].elements", "at least 1 element"),
    (item("skeleton", "body", elements=[]), "[0].elements", "at least 1 element"),
    (
        item(
            "skeleton",
            "body",
            points=[1, 2],
            elements=[{"label": "head", "type": "points", "points": [1, 2]}],
        ),
        "[0].points",
        "no points of its own",
    ),
    (
        item(
            "skeleton",
            "body",
            elements=[{"label": "head", "type": "points", "points": [1, 2, 3, 4]}],
        ),
        "[0].elements[0].points",
        "one point",
    ),
    (
        item(
            "skeleton",
            "body",
            elements=[{"label": "head", "type": "rectangle", "points": [1, 2]}],
        ),
        "[0].elements[0].type",
        '"points"',
    ),
    (7, "[0]", "must be an object"),
]


@pytest.mark.parametrize(("bad", "path", "message"), BAD)
def test_rejected_values_are_errors_with_their_path(bad, path, message):
    problem = only(detect(bad).violations)
    assert problem.path == path
    assert message in str(problem)


WARNED = [
    (item(label="kat"), "[0].label", 'did you mean "cat"?'),
    (item(label="Cat"), "[0].label", 'did you mean "cat"?'),
    (item("polygon", "dog", points=[1, 2, 3, 4, 5, 6]), "[0].type", "declares"),
    (item(points=[1, 2, 300, 40]), "[0].points", "outside the image (100 x 80)"),
    (item(points=[30, 40, 1, 2]), "[0].points", "no area"),
    (item(confidence="high"), "[0].confidence", "not a number"),
    (item(attributes=[{"name": "size", "value": "1"}]), "[0].attributes[0].name", "drops it"),
    (item(attributes=[{"name": "age", "value": "3"}]), "[0].attributes[0].value", "step of 2"),
    (item(attributes=[{"name": "age", "value": "22"}]), "[0].attributes[0].value", "0 and 20"),
    (item(attributes=[{"name": "age", "value": "old"}]), "[0].attributes[0].value", "whole number"),
    (item(attributes=[{"name": "age", "value": 4}]), "[0].attributes[0].value", "a string"),
    (
        item(label="sign", attributes=[{"name": "bent", "value": "True"}]),
        "[0].attributes[0].value",
        'neither "true" nor "false"',
    ),
    (
        item(label="sign", attributes=[{"name": "colour", "value": "green"}]),
        "[0].attributes[0].value",
        "one of red, blue",
    ),
    (item("mask", mask=[0, 5, 5, 5, 5]), "[0].mask", "no pixel"),
    (
        item("skeleton", "body", elements=[{"label": "hed", "type": "points", "points": [1, 2]}]),
        "[0].elements[0].label",
        'did you mean "head"?',
    ),
    (
        item(
            "skeleton",
            "body",
            elements=[{"label": "head", "type": "points", "points": [1, 2], "outside": 1}],
        ),
        "[0]",
        "drops the skeleton",
    ),
]


@pytest.mark.parametrize(("odd", "path", "message"), WARNED)
def test_silently_dropped_values_are_warnings(odd, path, message):
    reading = detect(odd)
    assert reading.violations == ()
    problem = only(reading.diagnostics)
    assert problem.path == path
    assert message in str(problem)


def test_coordinates_from_0_to_1_are_reported_once():
    near = only(
        detect(
            item(points=[10, 20, 30, 40]),
            item(points=[0.25, 0.25, 0.5, 0.75]),
            item("polygon", points=[0, 0, 0.5, 1, 1, 0]),
        ).diagnostics
    )
    assert (near.severity, near.path) == ("warning", "[1].points")
    assert "2 shapes have only coordinates from 0 to 1" in near.message
    assert "width (100)" in (near.hint or "")
    skeleton = item(
        "skeleton", "body", elements=[{"label": "head", "type": "points", "points": [0.5, 0.5]}]
    )
    assert "from 0 to 1" in only(detect(skeleton).diagnostics).message
    # Corners of the first pixel, and an image that is no larger.
    assert not detect(item("points", points=[0, 1])).diagnostics
    small = json.dumps([item(points=[0.25, 0.25, 0.5, 0.75])])
    assert not read_reply("detector", small, LABELS, (2, 2)).diagnostics


def test_coordinates_from_0_to_1_of_other_kinds():
    tracked = read_reply(
        "tracker", json.dumps({"states": [1], "shapes": [[0.1, 0.2, 0.5, 0.6]]}), [], SIZE
    )
    assert only(tracked.diagnostics).path == "shapes[0].points"


def test_a_confidence_above_1_is_reported_once():
    odd = only(
        detect(item(confidence="0.5"), item(confidence="90"), item(confidence=80)).diagnostics
    )
    assert (odd.severity, odd.path) == ("warning", "[1].confidence")
    assert "90 is above 1" in odd.message
    assert not detect(item(confidence=1)).diagnostics


def test_one_invalid_item_does_not_affect_the_others():
    reading = detect(item(), item(points=[1]), item("tag"))
    assert [shape.index for shape in reading.shapes] == [0, 2]
    assert only(reading.violations).path == "[1].points"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "not JSON"),
        (b"", "not JSON"),
        (b"[{'label': 'cat'}]", "json.dumps"),
        (b"null", "not with null"),
        (b'{"detections": []}', 'return the list under "detections" itself'),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_reply_that_is_not_a_list(body, message):
    assert message in str(only(read_reply("detector", body, LABELS, SIZE).violations))


def test_shapes_of_a_function_without_labels_are_all_dropped():
    assert "declares no labels" in str(only(detect(item(), labels=[]).diagnostics))
    assert detect(labels=[]).diagnostics == ()


def test_a_mask_and_its_confidence_are_read():
    mask = [0, 1, 1, 1, 10, 20, 11, 21]
    (shape,) = detect(item("mask", mask=mask, confidence="0.5")).shapes
    assert shape.mask == Mask(10, 20, 11, 21, b"\x00\x01\x01\x01")
    assert (shape.confidence, shape.mask.area) == (0.5, 3)


def test_rows_of_a_table():
    skeleton = item(
        "skeleton",
        "body",
        elements=[
            {"label": "head", "type": "points", "points": [1, 2]},
            {"label": "foot", "type": "points", "points": [5, 6], "outside": True},
        ],
    )
    shapes = detect(
        item(confidence="0.987"),
        item("polygon", points=list(range(20))),
        item("mask", mask=[0, 1, 1, 1, 10, 20, 11, 21]),
        skeleton,
        item("tag"),
    ).shapes
    assert table_rows(shapes) == [
        ("cat", "rectangle", "0.99", "1,2 30,40"),
        ("cat", "polygon", "-", "0,1 2,3 4,5 6,7 … (10 points)"),
        ("cat", "mask", "-", "3 pixels in 10,20 11,21"),
        ("body", "skeleton", "-", "1 of 2 points visible"),
        ("cat", "tag", "-", "-"),
    ]


KEYS = ["label", "type", "points", "mask", "elements", "attributes", "rotation", "confidence"]
KEYS += ["shapes", "states", "blob", "name", "value", "spec_id", "outside"]
WORDS = ["cat", "body", "head", "rectangle", "mask", "skeleton", "points", "tag", "polygon", "1"]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.sampled_from(WORDS)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=30,
)


@given(st.sampled_from(["detector", "interactor", "tracker", "reid"]), json_values)
def test_any_reply_can_be_checked(kind, reply):
    reading = read_reply(kind, reply, LABELS, SIZE)
    table_rows(reading.shapes)
    [str(problem) for problem in reading.diagnostics]
