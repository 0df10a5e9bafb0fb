"""The comparison of routes from a request to an array."""

import json

from bench.decoding import CVAT, OURS, compare, make_request


def test_routes_are_measured_with_equal_pixels(photo):
    body = make_request(photo("rocket.jpg"), (320, 180))
    assert json.loads(body)["threshold"] == 0.5
    pillow, vision = compare(body, 1, (CVAT, OURS))
    assert pillow > 0
    assert vision > 0
