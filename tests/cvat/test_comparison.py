"""Replies are compared by the function's kind: what is the same, new, gone or moved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.cvat.comparison import Comparison, compare_replies, similarity
from fnbuild.cvat.shapes import Mask, Shape
from fnbuild.function.labels import Label

SIZE = (200, 100)
LABELS = [Label("cat"), Label("dog")]


def box(*points: float, label: str = "cat", **values: Any) -> dict[str, Any]:
    return {"label": label, "type": "rectangle", "points": [*points], **values}


def compare(kind: str, before: Any, after: Any, least: float = 0.9) -> Comparison:
    old, new = (json.dumps(value).encode() for value in (before, after))
    return compare_replies(kind, old, new, LABELS, SIZE, least)


def counts(result: Comparison) -> tuple[int, int, int, int]:
    return result.same, result.added, result.removed, result.moved


def test_detections_are_matched_by_label_and_overlap() -> None:
    before = [box(0, 0, 10, 10), box(50, 50, 60, 60), box(100, 0, 120, 20), box(0, 50, 9, 59)]
    after = [
        box(100, 0, 120, 15),
        box(50, 50, 60, 60, label="dog"),
        box(0, 0, 10, 10),
        box(0, 50, 9, 59),
        box(150, 50, 160, 60),
    ]
    result = compare("detector", before, after)
    assert counts(result) == (2, 2, 1, 1)
    assert result.worst == 0.75
    assert result.differs


def test_the_order_and_the_confidence_make_no_difference() -> None:
    before = [box(0, 0, 10, 10, confidence="0.9"), box(20, 0, 30, 10)]
    result = compare("detector", before, [box(20, 0, 30, 10), box(0, 0, 10, 10, confidence="0.8")])
    assert counts(result) == (2, 0, 0, 0)
    assert not result.differs


def test_another_attribute_is_a_difference() -> None:
    before = box(0, 0, 9, 9, attributes=[{"name": "age", "value": "1"}])
    after = box(0, 0, 9, 9, attributes=[{"name": "age", "value": "2"}])
    assert counts(compare("detector", [before], [after])) == (0, 0, 0, 1)


def test_empty_replies_are_the_same_and_a_first_shape_is_new() -> None:
    assert not compare("detector", [], []).differs
    assert counts(compare("detector", [], [box(0, 0, 9, 9)])) == (0, 1, 0, 0)


def test_masks_of_interactors_are_compared_by_their_pixels() -> None:
    def reply(width: int) -> dict[str, Any]:
        return {"shapes": [{"type": "mask", "points": [0, width * 10, 5, 5, 4 + width, 14]}]}

    assert compare("interactor", reply(10), reply(8)).worst == pytest.approx(0.8)
    assert not compare("interactor", reply(10), reply(10)).differs
    legacy = [[int(5 <= x <= 14 and 5 <= y <= 14) for x in range(200)] for y in range(100)]
    assert not compare("interactor", reply(10), {"mask": legacy}).differs


def test_an_embedding_is_compared_as_json() -> None:
    assert compare("interactor", {"blob": "AAAA"}, {"blob": "BBBB"}).note == "blob differs"
    assert not compare("interactor", {"blob": "AAAA"}, {"blob": "AAAA"}).differs


def test_trackers_are_compared_by_index_and_without_their_states() -> None:
    before = {"states": [{"a": 1}, {}], "shapes": [[0, 0, 10, 10], [50, 50, 60, 60]]}
    after = {"states": [{"a": 2}, {}], "shapes": [[0, 0, 10, 10], [150, 50, 160, 60]]}
    result = compare("tracker", before, after)
    assert (counts(result), result.worst) == ((1, 0, 0, 1), 0)
    assert not compare("tracker", {"states": [1]}, {"states": [2]}).differs


def test_reid_is_compared_by_indexes() -> None:
    assert counts(compare("reid", [0, 1, -1], [0, 2, -1])) == (2, 0, 0, 1)


def test_other_replies_are_compared_as_json_with_a_tolerance_for_numbers() -> None:
    assert not compare("", {"scores": [0.1, 0.20000001]}, {"scores": [0.1, 0.2]}).differs
    assert compare("", {"scores": [0.1, 0.3]}, {"scores": [0.1, 0.2]}).note == "scores[1] differs"
    assert compare_replies(None, b"a", b"b", [], None, 0.9).note == "the reply differs"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (Shape("rectangle", (0, 0, 10, 10)), Shape("rectangle", (5, 0, 15, 10)), 1 / 3),
        (Shape("rectangle", (0, 0, 9, 9)), Shape("rectangle", (0, 0, 9, 9), rotation=90), 1.0),
        (Shape("polygon", (0, 0, 9, 0, 9, 9)), Shape("polygon", (9, 9, 0, 0, 9, 0)), 1.0),
        (
            Shape("polygon", (0, 0, 20, 0, 20, 20, 0, 20)),
            Shape("polygon", (0, 0, 20, 0, 20, 20)),
            0.5,
        ),
        (Shape("points", (50, 50)), Shape("points", (50, 50)), 1.0),
        (Shape("points", (50, 50)), Shape("points", (90, 50)), 0.0),
        (Shape("polyline", (0, 0, 100, 0)), Shape("polyline", (0, 0, 90, 0)), 0.95),
        (Shape("tag"), Shape("tag"), 1.0),
        (Shape("rectangle", (3, 3, 3, 3)), Shape("rectangle", (3, 3, 3, 3)), 1.0),
    ],
)
def test_similarity(old: Shape, new: Shape, expected: float) -> None:
    assert similarity(old, new, SIZE) == pytest.approx(expected, abs=0.02)


def test_masks_with_different_boxes_are_compared_where_they_overlap() -> None:
    old = Mask(0, 0, 9, 9, b"\1" * 100)
    new = Mask(5, 5, 14, 14, b"\1" * 100)
    assert similarity(Shape("mask", mask=old), Shape("mask", mask=new), SIZE) == 25 / 175


def test_points_of_a_skeleton_are_compared_by_name() -> None:
    def skeleton(**points: tuple[float, float]) -> Shape:
        elements = tuple(Shape("points", at, name) for name, at in points.items())
        return Shape("skeleton", label="cat", elements=elements)

    old = skeleton(a=(0, 0), b=(30, 40), c=(60, 80))
    assert similarity(old, skeleton(c=(60, 80), a=(0, 0), b=(30, 40)), SIZE) == 1
    assert similarity(old, skeleton(a=(0, 0), b=(30, 40)), SIZE) == pytest.approx(2 / 3)
    assert similarity(old, skeleton(a=(3, 4), b=(33, 44), c=(63, 84)), SIZE) > 0.9


def test_points_at_the_end_of_all_numbers_are_compared() -> None:
    far = [-1.7e308, 0, 1.7e308, 5, 0, 1.7e308]
    polygon = {"label": "cat", "type": "polygon", "points": far}
    assert counts(compare("detector", [polygon], [polygon])) == (1, 0, 0, 0)
    other = {**polygon, "points": [*far[:4], 1, 1]}
    assert compare("detector", [polygon], [other]).differs
