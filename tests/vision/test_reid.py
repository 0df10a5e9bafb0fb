"""Re-identification: boxes are matched by the least sum of distances."""

import itertools

import numpy as np
import pytest

from fnbuild import vision
from fnbuild.vision.reid import assign
from tests.vision.bases import Exported, encoded


class Colours(vision.ReId):
    """Compares the mean colours of boxes."""

    def embed(self, image, boxes):
        return [vision.crop(image, box).reshape(-1, 3).mean(0) - 127 for box in boxes]


def scene(*squares):
    image = np.full((60, 100, 3), 127, np.uint8)
    for left, colour in squares:
        image[20:40, left : left + 20] = colour
    return image


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def boxes(*lefts):
    return [{"points": [left, 20, left + 20, 40], "type": "rectangle"} for left in lefts]


def match(function, first, second, **more):
    values = {"image0": encoded(first[0]), "image1": encoded(second[0])}
    return function(boxes0=first[1], boxes1=second[1], **values, **more)


FIRST = scene((0, RED), (30, GREEN), (60, BLUE)), boxes(0, 30, 60)
SECOND = scene((5, GREEN), (35, RED), (65, BLUE)), boxes(5, 35, 65)


def test_boxes_are_matched_by_their_vectors():
    function = Exported(Colours)
    assert match(function, FIRST, SECOND) == (200, [1, 0, 2])
    assert match(function, FIRST, (SECOND[0], boxes(35))) == (200, [0, -1, -1])
    assert match(function, (FIRST[0], boxes(0)), SECOND) == (200, [1])
    assert match(function, FIRST, (SECOND[0], [])) == (200, [-1, -1, -1])
    assert match(function, (FIRST[0], []), SECOND) == (200, [])


def test_limits_of_the_request():
    function = Exported(Colours)
    assert match(function, FIRST, SECOND, max_distance=10) == (200, [-1, -1, 2])
    unlike = scene((0, (255, 0, 90)))
    assert match(function, FIRST, (unlike, boxes(0)), threshold=0.01) == (200, [-1, -1, -1])
    assert match(function, FIRST, (unlike, boxes(0)), threshold=0.5) == (200, [0, -1, -1])


@pytest.mark.parametrize(
    "more",
    [
        {"boxes1": None},
        {"boxes1": [[1, 2, 3, 4]]},
        {"boxes1": [{"points": [1, 2, 3]}]},
        {"boxes1": [{"points": [1, 2, 3, "x"]}]},
        {"threshold": 2},
        {"max_distance": -1},
        {"image1": "***"},
    ],
)
def test_invalid_requests(more):
    values = {"image0": encoded(FIRST[0]), "image1": encoded(SECOND[0])}
    values.update(boxes0=FIRST[1], boxes1=SECOND[1])
    values.update(more)
    status, content = Exported(Colours)(**values)
    assert status == 400
    assert content["error"]


def test_boxes_without_a_pixel_have_no_match():
    outside, empty = {"points": [200, 20, 300, 40]}, {"points": [9, 20, 9, 40]}
    first = FIRST[0], [outside, *FIRST[1], empty]
    second = SECOND[0], [empty, *SECOND[1][:2], outside, SECOND[1][2]]
    assert match(Exported(Colours), first, second) == (200, [-1, 2, 1, 4, -1])
    assert match(Exported(Colours), first, (SECOND[0], [outside])) == (200, [-1] * 5)


def test_the_author_may_match():
    class Own(vision.ReId):
        def match(self, image0, boxes0, image1, boxes1):
            assert boxes0.shape == boxes1.shape == (3, 4)
            return np.array([2, -1, 0])

    assert match(Exported(Own), FIRST, SECOND) == (200, [2, -1, 0])


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 6), (6, 4), (5, 5)])
def test_the_assignment_has_the_least_sum(shape):
    random = np.random.default_rng(sum(shape))
    for _ in range(20):
        costs = random.choice([0.1, 0.2, 0.5, 0.9, 1e6], shape)
        result = assign(costs)
        chosen = [(i, j) for i, j in enumerate(result) if j >= 0]
        assert len(chosen) == len({j for _, j in chosen}) == min(shape)
        least = min(
            sum(costs[i, j] for i, j in zip(rows, columns, strict=True))
            for rows in itertools.combinations(range(shape[0]), min(shape))
            for columns in itertools.permutations(range(shape[1]), min(shape))
        )
        assert sum(costs[i, j] for i, j in chosen) == pytest.approx(least)


def test_crops_have_at_least_one_pixel():
    image = np.arange(12).reshape(3, 4)
    assert vision.crop(image, (1, 1, 3, 99)).tolist() == [[5, 6], [9, 10]]
    assert vision.crop(image, (-9, -9, -5, -5)).tolist() == [[0]]
    assert vision.crop(image, (50, 50, 60, 60)).tolist() == [[11]]
