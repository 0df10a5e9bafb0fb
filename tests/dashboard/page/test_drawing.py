"""Drawing of shapes in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.system

_CAPTION = """async () => {
  const { drawShapes } = await import("/static/draw.js");
  const canvas = new OffscreenCanvas(300, 200);
  const context = canvas.getContext("2d");
  const point = (label, points) => ({ type: "points", label, points, outside: false });
  const elements = [point("head", [100, 50]), point("foot", [299, 199])];
  const shape = { type: "skeleton", label: "", points: [], elements, confidence: null };
  drawShapes(context, [shape], { unit: 1 });
  // Left of the point in the corner, where its name has room.
  const { data } = context.getImageData(240, 180, 50, 20);
  return data.filter((_, i) => i % 4 === 0 && data[i] > 200 && data[i + 1] > 200).length;
}"""


def test_the_name_of_a_point_at_the_edge_is_inside_the_picture(page: Page) -> None:
    assert page.evaluate(_CAPTION) > 10
