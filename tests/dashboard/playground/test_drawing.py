"""The canvas shows the function's reply, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from fnbuild.cvat.request import build_request, read_image
from fnbuild.cvat.shapes import runs_to_bits
from fnbuild.function.labels import PALETTE
from tests.dashboard.conftest import Dashboard
from tests.dashboard.playground.conftest import Play
from tests.dashboard.playground.playground_page import Playground, alike

pytestmark = pytest.mark.system

Photo = Callable[[str], Path]
GREY = (90, 90, 90)


def replied(gallery: Dashboard, name: str, body: bytes) -> Any:
    """Return the reply to the same request without a browser."""
    headers = {"Content-Type": "application/json", "X-Nuclio-Function-Name": name}
    answer = gallery.request(
        "POST", "/api/function_invocations", body=body, headers=headers, token=False
    )
    assert answer.status == 200
    return answer.json


def edges(points: list[float]) -> list[tuple[float, float]]:
    left, top, right, bottom = points
    x, y = (left + right) / 2, (top + bottom) / 2
    return [(left, y), (right, y), (x, bottom)]


def test_boxes_are_drawn_at_their_positions(play: Play, gallery: Dashboard, photo: Photo) -> None:
    picture = photo("bus.jpg")
    there = play("face-haar")
    there.choose(picture)
    there.answered(1)
    reply = replied(gallery, "face-haar", build_request("detector", read_image(picture)).body)
    assert there.reply == reply
    assert there.rows() == ["face", "face"]
    for shape in reply:
        for x, y in edges(shape["points"]):
            assert alike(there.pixel(x, y), PALETTE[0]), (shape, x, y)
    with Image.open(picture) as original:
        saved = there.saved()
        assert saved.size == original.size
        changed = (
            np.abs(np.asarray(saved, int) - np.asarray(original.convert("RGB"), int)).max(2) > 24
        )
    # Nothing is drawn but boxes with their lines, and names above or below them.
    for shape in reply:
        left, top, right, bottom = (round(value) for value in shape["points"])
        changed[max(0, top - 60) : bottom + 60, max(0, left - 10) : right + 160] = False
    assert not changed.any()


def test_every_type_of_shape(play: Play, scenery: Path) -> None:
    there = play("every-shape")
    there.choose(scenery)
    there.answered(1)
    box, ring, area, line, dots, crate, patch, stick, _ = PALETTE[:9]
    drawn = {
        (10, 60): box, (70, 60): box, (40, 80): box,
        # A quarter turn about (150, 40): 20 wide, 80 high.
        (140, 40): box, (160, 40): box, (150, 80): box,
        (280, 50): ring, (220, 50): ring, (250, 70): ring,
        (350, 20): area, (350, 89): area,
        (30, 120): line, (60, 145): line,
        (100, 120): dots, (130, 150): dots,
        (185, 180): crate, (230, 135): crate, (170, 120): crate, (205, 110): crate,
        (260.5, 120.5): patch, (263.5, 121.5): patch,
        (340, 120): stick, (340, 150): stick, (340, 180): stick,
    }  # fmt: skip
    for place, ink, colour in zip(drawn, drawn.values(), there.pixels(drawn), strict=True):
        assert alike(colour, ink), (place, colour, ink)
    # A rotated box is not at its old position; hidden points and zeros of masks are not drawn.
    empty = ((112, 40), (188, 40), (380, 150), (360, 135), (250, 150), (300, 250))
    for place, colour in zip(empty, there.pixels(empty), strict=True):
        assert colour == GREY, place
    surroundings = np.array(there.pixels((x, y) for x in range(344, 362) for y in range(116, 125)))
    assert (surroundings.min(axis=1) > 200).any(), "the name of a skeleton's point is beside it"
    inside = np.array(there.pixel(350, 50))
    assert (inside != GREY).any(), "a polygon is filled"
    assert not alike(tuple(inside), area)
    assert there.rows()[-1] == "indoors"
    expect(there.page.locator(".panel-findings")).to_contain_text("CVAT accepts this reply")


def test_an_interval_is_listed_and_not_drawn(play: Play, scenery: Path) -> None:
    there = play("every-shape")
    there.choose(scenery)
    there.answered(1)
    there.page.get_by_label("Threshold").fill("0.05")
    there.page.get_by_role("button", name="Run").click()
    there.answered(2)
    expect(there.page.get_by_text("no place on a picture")).to_be_visible()
    expect(there.page.get_by_text("an interval of audio cannot be drawn")).to_be_visible()
    assert there.pixel(250, 150) == GREY


def test_the_threshold_hides_at_once_and_is_sent_with_the_next_request(
    play: Play, scenery: Path
) -> None:
    there = play("every-shape")
    there.choose(scenery)
    there.answered(1)
    assert list(there.sent[0]) == ["image"]
    slider = there.page.get_by_label("Threshold")
    slider.fill("0.5")
    there.settled()
    assert alike(there.pixel(140, 40), GREY)
    assert alike(there.pixel(10, 60), PALETTE[0])
    expect(there.page.locator(".side h2").first).to_contain_text("1 below the threshold")
    slider.fill("0.85")
    there.settled()
    assert alike(there.pixel(280, 50), GREY)
    assert len(there.sent) == 1
    there.page.get_by_role("button", name="Run").click()
    there.answered(2)
    assert list(there.sent[1]) == ["image", "threshold"]
    assert there.sent[1]["threshold"] == 0.85


def test_labels_are_hidden_by_the_legend(play: Play, scenery: Path) -> None:
    there = play("every-shape")
    there.choose(scenery)
    there.answered(1)
    legend = there.page.get_by_role("group", name="Labels")
    assert legend.get_by_role("button").all_inner_texts()[0].split() == ["box", "2"]
    assert legend.get_by_role("button").count() == 9
    legend.get_by_role("button", name="box").click()
    there.settled()
    assert there.pixel(10, 60) == GREY
    assert alike(there.pixel(280, 50), PALETTE[1])
    expect(legend.get_by_role("button", name="box")).to_have_attribute("aria-pressed", "false")
    expect(legend.get_by_role("button", name="box")).to_be_focused()
    legend.get_by_role("button", name="box").click()
    there.settled()
    assert alike(there.pixel(10, 60), PALETTE[0])


def mask_of(reply: Any, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Return an interactor's mask, in either format, as an array of the whole image."""
    if "mask" in reply:
        return np.array(reply["mask"], bool)
    *runs, left, top, right, bottom = reply["shapes"][0]["points"]
    full = np.zeros(size[::-1], bool)
    bits = np.frombuffer(runs_to_bits(runs), np.uint8).reshape(bottom - top + 1, right - left + 1)
    full[top : bottom + 1, left : right + 1] = bits
    return full


def assert_mask(there: Playground, picture: Path, box: tuple[int, int, int, int]) -> None:
    """Check that exactly the pixels of the mask are tinted within the box."""
    drawn = np.asarray(there.saved(), int)
    with Image.open(picture) as original:
        size, before = original.size, np.asarray(original.convert("RGB"), int)
    mask = mask_of(there.reply, size)
    left, top, right, bottom = box
    inner = np.s_[top + 8 : bottom - 8, left + 8 : right - 8]
    blue = np.array(PALETTE[2])
    tinted = np.abs(drawn - (before * 0.58 + blue * 0.42)).max(2) <= 3
    edge = np.abs(drawn - blue).max(2) <= 1
    plain = np.abs(drawn - before).max(2) <= 1
    assert (tinted | edge)[inner][mask[inner]].all()
    assert plain[inner][~mask[inner]].all()
    assert 0.05 < mask[inner].mean() < 0.95


def test_masks_are_drawn_pixel_by_pixel(play: Play, photo: Photo) -> None:
    box = (130, 40, 470, 350)
    for name in ("grabcut", "grabcut-rows"):
        there = play(name)
        there.choose(photo("coffee.png"))
        there.tool("Box")
        there.drag(box[:2], box[2:])
        there.answered(1)
        sent = there.sent[0]
        assert list(sent) == ["image", "pos_points", "neg_points", "obj_bbox"]
        assert (sent["pos_points"], sent["neg_points"]) == ([], [])
        assert np.abs(np.array(sent["obj_bbox"]).ravel() - box).max() <= 1
        sent_box = tuple(value for corner in sent["obj_bbox"] for value in corner)
        assert_mask(there, photo("coffee.png"), sent_box)
        assert ("mask" in there.reply) is (name == "grabcut-rows")


def test_lines_keep_their_position_at_two_pixels_a_point(play: Play, scenery: Path) -> None:
    there = play("every-shape", device_scale_factor=2)
    there.choose(scenery)
    there.answered(1)
    box = there.canvas.bounding_box()
    assert box is not None
    assert there.canvas.evaluate("one => one.width") == round(box["width"] * 2)
    assert alike(there.pixel(10, 60), PALETTE[0], 8)
    assert alike(there.pixel(280, 50), PALETTE[1], 8)


def test_zoom_keeps_the_position_under_the_pointer(play: Play, scenery: Path) -> None:
    there = play("every-shape")
    there.choose(scenery)
    there.answered(1)
    x, y = there.at(10, 60)
    there.canvas.click(position={"x": x, "y": y})
    box = there.canvas.bounding_box()
    assert box is not None
    there.page.mouse.move(box["x"] + x, box["y"] + y)
    there.page.mouse.wheel(0, -600)
    there.settled()
    # A wheel has only whole pixels.
    nearby = there.drawn((x + near, y) for near in range(-5, 6))
    assert any(alike(colour, PALETTE[0]) for colour in nearby)
    there.page.get_by_role("button", name="The whole picture").click()
    there.settled()
    assert alike(there.pixel(10, 60), PALETTE[0])
