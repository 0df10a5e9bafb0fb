"""Requests by clicks and in programs are those of CVAT, and replies are explained."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.dashboard.conftest import Dashboard
from tests.dashboard.page.browsing import PHONE
from tests.dashboard.playground.conftest import Play
from tests.dashboard.playground.playground_page import Playground, alike, program, run
from tests.functions.test_opencv import ASTRONAUT, likeness

pytestmark = pytest.mark.system

Photo = Callable[[str], Path]
GREEN, RED = (0, 200, 90), (240, 40, 50)


def near(first: list[list[float]], second: list[tuple[float, float]]) -> bool:
    """Return True if the positions are equal within a pixel."""
    pairs = zip(first, second, strict=True)
    return all(abs(a - c) <= 1 and abs(b - d) <= 1 for (a, b), (c, d) in pairs)


def test_clicks_are_sent_in_their_order(play: Play, photo: Photo) -> None:
    there = play("grabcut")
    there.choose(photo("coffee.png"))
    expect(there.page.locator(".status")).to_have_text(
        "Draw a box around the object, or click on it."
    )
    there.tool("+ Include")
    there.click(300, 150)
    there.answered(1)
    assert near(there.sent[0]["pos_points"], [(300, 150)])
    assert (there.sent[0]["neg_points"], there.sent[0]["obj_bbox"]) == ([], [])
    there.click(450, 320, button="right")
    there.answered(2)
    assert near(there.sent[1]["neg_points"], [(450, 320)])
    there.page.keyboard.press("x")
    there.click(500, 60)
    there.answered(3)
    assert near(there.sent[2]["neg_points"], [(450, 320), (500, 60)])
    there.settled()
    # Next to the white sign in the middle of the dot.
    assert alike(there.pixel(302, 152), GREEN)
    assert alike(there.pixel(452, 322), RED)
    there.tool("Undo")
    there.answered(4)
    assert near(there.sent[3]["neg_points"], [(450, 320)])
    there.tool("Clear")
    expect(there.page.locator(".results li")).to_have_count(0)
    assert len(there.sent) == 4


def test_an_interactor_by_keyboard(play: Play, photo: Photo) -> None:
    there = play("grabcut")
    there.choose(photo("coffee.png"))
    keyboard = there.page.keyboard
    keyboard.press("a")
    # The first arrow shows the cross in the middle.
    for key in ("ArrowUp", "ArrowUp", "Enter"):
        keyboard.press(key)
    there.answered(1)
    ((x, y),) = there.sent[0]["pos_points"]
    assert x == 300
    assert 180 < y < 200
    keyboard.press("Shift+ArrowDown")
    keyboard.press("Shift+Enter")
    there.answered(2)
    assert there.sent[1]["neg_points"] == [[300, y + 1]]
    keyboard.press("Backspace")
    there.answered(3)
    assert there.sent[2]["neg_points"] == []
    for key in (
        "b",
        "ArrowLeft",
        "Enter",
        "ArrowDown",
        "ArrowDown",
        "ArrowRight",
        "ArrowRight",
        "Enter",
    ):
        keyboard.press(key)
    there.answered(4)
    (left, top), (right, bottom) = there.sent[3]["obj_bbox"]
    assert left < 300 < right
    assert top < bottom


def test_a_rotated_photograph_is_sent_upright(play: Play, photo: Photo, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = tmp_path / "lying.jpg"
    with Image.open(photo("astronaut.png")) as upright:
        wide = upright.convert("RGB").crop((0, 0, 512, 400))
    wide.transpose(Image.Transpose.ROTATE_90).save(lying, exif=exif, quality=95)
    there = play("face-haar")
    there.choose(lying)
    there.answered(1)
    assert there.size == (512, 400)
    with Image.open(io.BytesIO(base64.b64decode(there.sent[0]["image"]))) as sent:
        assert sent.size == (512, 400)
        assert sent.getexif().get(0x0112, 1) == 1
    assert likeness(there.reply[0]["points"], ASTRONAUT) > 0.6


def test_pictures_are_dropped_and_pasted(play: Play, photo: Photo) -> None:
    there = play("face-haar")
    there.hand("drop", photo("astronaut.png"), "image/png")
    expect(there.page.locator(".readout")).to_contain_text("astronaut.png, 512")
    there.answered(1)
    assert base64.b64decode(there.sent[0]["image"]) == photo("astronaut.png").read_bytes()
    there.hand("paste", photo("zidane.jpg"), "image/jpeg")
    expect(there.page.locator(".readout")).to_contain_text("zidane.jpg")
    there.answered(2)
    assert base64.b64decode(there.sent[1]["image"]) == photo("zidane.jpg").read_bytes()


def test_a_file_that_is_not_an_image(play: Play, tmp_path: Path) -> None:
    there = play("face-haar")
    path = tmp_path / "notes.jpg"
    path.write_text("no picture")
    there.hand("drop", path, "image/jpeg")
    expect(there.page.locator(".panel-error")).to_contain_text("notes.jpg is not a picture")
    there.sample("Astronaut")
    there.answered(1)
    expect(there.page.locator(".panel-error")).to_be_empty()
    assert there.rows() == ["face"]


def test_several_images_are_sent_one_after_the_other(play: Play, photo: Photo) -> None:
    there = play("face-haar")
    there.choose(*(photo(name) for name in ("coffee.png", "astronaut.png", "chelsea.png")))
    there.answered(1)
    there.page.get_by_role("button", name="Run all").click()
    expect(there.page.locator(".strip .count")).to_have_text("3 / 3")
    there.answered(3)
    assert there.rows() == []
    there.page.get_by_role("button", name="Previous picture").click()
    expect(there.page.locator(".strip .count")).to_have_text("2 / 3")
    there.page.get_by_role("button", name="Previous picture").click()
    expect(there.page.locator(".readout")).to_contain_text("astronaut.png")
    assert there.rows() == ["face"]
    there.answered(3)


def test_the_programs_run_and_have_the_same_reply(
    play: Play, gallery: Dashboard, photo: Photo, tmp_path: Path
) -> None:
    odd = tmp_path / 'it\'s "the" cup $1.png'
    odd.write_bytes(photo("coffee.png").read_bytes())
    there = play("grabcut")
    there.choose(odd)
    there.tool("Box")
    there.drag((130, 40), (470, 350))
    there.answered(1)
    assert run(tmp_path, "sh", "-c", program(there, "curl")) == there.reply
    assert run(tmp_path, sys.executable, "-c", program(there, "Python")) == there.reply
    assert gallery.url in program(there, "curl")


def fault(there: Playground, threshold: str) -> str:
    there.page.get_by_label("Threshold").fill(threshold)
    there.page.get_by_role("button", name="Run").click()
    expect(there.page.locator(".playground")).to_have_attribute("aria-busy", "false")
    return there.page.locator(".panel-error").inner_text()


def test_errors_are_explained(play: Play, scenery: Path) -> None:
    there = play("faults")
    there.choose(scenery)
    there.answered(1)
    # Only the first of the three shapes can be drawn, and its name is text.
    assert there.rows() == ["<img src=x onerror=alert(1)>"]
    expect(there.page.locator(".status")).to_have_text("2 of the results cannot be drawn.")
    verdict = there.page.locator(".panel-findings")
    expect(verdict).to_contain_text("CVAT would refuse or misread this reply")
    expect(verdict.locator("li.error")).to_have_count(2)
    expect(verdict.locator("li.warning")).to_have_count(1)
    expect(verdict).to_contain_text("[1].points")
    assert "faults answered 503: the <b>weights</b> are gone" in fault(there, "0.1")
    assert "no more memory" in fault(there, "0.2")
    assert "faults did not return JSON" in fault(there, "0.3")
    link = there.page.locator(".panel-error").get_by_role("link", name="Log")
    assert link.get_attribute("href") == "#/functions/faults/logs"
    assert fault(there, "0") == ""
    there.page.route("**/api/function_invocations", lambda route: route.abort())
    assert "try again" in fault(there, "0.05")
    there.page.unroute("**/api/function_invocations")
    assert fault(there, "0") == ""


def test_the_timings_of_a_request_are_shown(play: Play) -> None:
    there = play("face-haar")
    there.sample("Astronaut")
    there.answered(1)
    times = there.page.locator(".panel-times")
    for stage in ("waiting for a worker", "handler", "network"):
        expect(times).to_contain_text(stage)
    values = [float(text.split()[0]) for text in times.locator("dd").all_inner_texts()]
    total = float(times.locator(".total").inner_text().split()[0])
    assert abs(sum(values) - total) <= 0.1 * total + 3
    assert values[2] > 1


def test_every_sample_can_be_sent(play: Play) -> None:
    there = play("every-shape")
    samples = there.page.get_by_label("Samples")
    names = samples.locator("option").all_inner_texts()[1:]
    assert len(names) == 4
    for i, name in enumerate(names):
        samples.select_option(label=name)
        there.answered(i + 1)
        with Image.open(io.BytesIO(base64.b64decode(there.sent[i]["image"]))) as sent:
            assert sent.format == "JPEG"
            assert max(sent.size) <= 360


def test_on_a_phone_by_touch(play: Play, photo: Photo) -> None:
    there = play("grabcut", viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    there.choose(photo("coffee.png"))
    there.tool("+ Include")
    x, y = there.at(300, 150)
    there.canvas.tap(position={"x": x, "y": y})
    there.answered(1)
    ((left, top),) = there.sent[0]["pos_points"]
    assert abs(left - 300) <= 2
    assert abs(top - 150) <= 2
    assert there.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    there.settled()
    assert alike(there.pixel(304, 155), GREEN)


def test_the_dark_theme(play: Play) -> None:
    there = play("face-haar", color_scheme="dark")
    there.sample("Astronaut")
    there.answered(1)
    ground = there.page.locator(".stage-card").evaluate(
        "one => getComputedStyle(one).backgroundColor"
    )
    assert max(int(value) for value in ground[4:-1].split(",")[:3]) < 60


def test_ignored_files_and_drags_without_effect_are_explained(
    play: Play, photo: Photo, tmp_path: Path
) -> None:
    there = play("grabcut")
    notes = tmp_path / "README.md"
    notes.write_text("notes")
    there.choose(photo("coffee.png"), notes)
    readout = there.page.locator(".readout")
    expect(readout).to_contain_text("README.md ignored: not a picture")
    there.tool("+ Include")
    there.drag((100, 100), (200, 200))
    expect(there.page.locator(".status")).to_have_text(
        "A drag does nothing here: click, or draw with the tool Box."
    )
    assert there.sent == []


def test_a_reply_of_a_function_that_cvat_does_not_list(play: Play) -> None:
    there = play("face-haar")
    expect(there.page.locator("#playground-keys")).not_to_contain_text("beside the object")
    there.sample("Astronaut")
    there.answered(1)
    expect(there.page.locator(".panel-findings")).to_contain_text(
        "CVAT does not call this function: it is not in CVAT's list: CVAT asks for the project cvat"
    )
