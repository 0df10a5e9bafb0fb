"""Equal replies differ only by rounding."""

from typing import Any

import pytest

from fnbuild.cvat.check.comparison import find_difference, shapes_differ
from fnbuild.cvat.replies import ParsedReply
from fnbuild.cvat.shapes import Mask, Shape


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (
            [{"points": [1, 2.0004], "confidence": "0.93"}],
            [{"points": [1.0, 2], "confidence": "0.94"}],
            None,
        ),
        ([{"points": [1, 2]}], [{"points": [1, 3]}], "[0].points[1]"),
        ({"shapes": [1]}, {"shapes": [1, 2]}, "shapes[1]"),
        ({"shapes": []}, {"shapes": [], "mask": None}, "mask"),
        ([True], [1.01], "[0]"),
        (["a"], ["b"], "[0]"),
        (None, [], ""),
        ([], [], None),
    ],
)
def test_the_first_difference(first: Any, second: Any, path: str | None) -> None:
    assert find_difference(first, second) == path
    assert find_difference(second, first) == path


def test_shapes_are_compared_in_any_order() -> None:
    cat = Shape("rectangle", (0, 0, 9, 9), "cat")
    dog = Shape("mask", label="dog", mask=Mask(1, 1, 2, 2, b"\1" * 4))
    moved = Shape("rectangle", (1, 1, 10, 10), "cat")
    far = Shape("rectangle", (5, 5, 10, 10), "cat")
    tag = Shape("tag", label="dog")
    assert shapes_differ(ParsedReply((cat, dog)), ParsedReply((dog, moved))) is None
    assert shapes_differ(ParsedReply((cat,)), ParsedReply((far,))) == "0,0 9,9 and 5,5 10,10"
    assert shapes_differ(ParsedReply((cat,)), ParsedReply((cat, dog))) == "1 shapes and 2"
    assert shapes_differ(ParsedReply((cat,)), ParsedReply((tag,))) == '"cat" and "dog"'
