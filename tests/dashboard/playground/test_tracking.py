"""Trackers step through videos and pictures; their states are sent again as CVAT does."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from fnbuild.function.labels import PALETTE
from tests.dashboard.playground.conftest import Play
from tests.dashboard.playground.playground_page import Playground, alike, program, run
from tests.dashboard.waiting import until
from tests.functions.test_opencv import ASTRONAUT, likeness

pytestmark = pytest.mark.system

Photo = Callable[[str], Path]
FRAMES = 10


def frame(photo: Photo, i: int) -> np.ndarray:
    """The astronaut, moved by 6 to the right and 3 down in each frame."""
    image = cv2.imread(str(photo("astronaut.png")))
    moved = np.array([[1.0, 0, 6 * i], [0, 1, 3 * i]])
    return cv2.warpAffine(image, moved, (512, 512), borderMode=cv2.BORDER_REFLECT)


def place(i: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = ASTRONAUT
    return left + 6 * i, top + 3 * i, right + 6 * i, bottom + 3 * i


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory, photo: Photo) -> Path:
    """A WebM file of 25 frames a second, which every Chromium plays."""
    path = tmp_path_factory.mktemp("video") / "astronaut.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 25, (512, 512))
    assert writer.isOpened()
    for i in range(FRAMES):
        writer.write(frame(photo, i))
    writer.release()
    return path


def at(there: Playground, i: int) -> None:
    expect(there.page.locator(".strip .count")).to_have_text(f"{i + 1} / {FRAMES}")


def forward(there: Playground, i: int) -> None:
    there.page.get_by_role("button", name="Next picture").click()
    at(there, i)
    there.answered(i + 1)


def frame_number(image: str, photo: Photo) -> int:
    """Return the frame of the video in a request."""
    sent = cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR)
    differences = [float(cv2.norm(sent, frame(photo, i))) for i in range(FRAMES)]
    return differences.index(min(differences))


def test_a_box_is_followed_through_a_video(play: Play, video: Path, photo: Photo) -> None:
    there = play("optical-flow")
    there.choose(video)
    at(there, 0)
    assert there.size == (512, 512)
    expect(there.page.locator(".status")).to_contain_text("Draw a shape around the object")
    there.drag(ASTRONAUT[:2], ASTRONAUT[2:])
    there.answered(1)
    first = there.sent[0]
    assert list(first) == ["image", "shapes", "states"]
    assert first["states"] == []
    (shape,) = first["shapes"]
    assert shape["type"] == "rectangle"
    assert np.abs(np.array(shape["points"]) - ASTRONAUT).max() <= 1
    states = there.reply["states"]
    for i in range(1, 4):
        forward(there, i)
        sent = there.sent[i]
        assert frame_number(sent["image"], photo) == i
        assert (sent["shapes"], sent["states"]) == ([None], states)
        states = there.reply["states"]
        points = there.reply["shapes"][0]["points"]
        assert likeness(points, place(i)) > 0.85, i
        assert alike(there.pixel(points[0], (points[1] + points[3]) / 2), PALETTE[0])
    # Going back sends no request, and the box is at its earlier position.
    there.page.get_by_role("button", name="Previous picture").click()
    at(there, 2)
    there.settled()
    left, top, _, bottom = place(2)
    assert any(alike(there.pixel(left + d, (top + bottom) / 2), PALETTE[0]) for d in range(-4, 5))
    assert len(there.sent) == 4
    there.page.get_by_role("button", name="Play").click()
    at(there, FRAMES - 1)
    there.answered(FRAMES)
    assert likeness(there.reply["shapes"][0]["points"], place(FRAMES - 1)) > 0.8


def test_other_rates_have_other_frames(play: Play, video: Path) -> None:
    there = play("optical-flow")
    there.choose(video)
    at(there, 0)
    rate = there.page.get_by_label("frames per second")
    assert rate.input_value() == "25"
    rate.fill("5")
    rate.press("Enter")
    expect(there.page.locator(".strip .count")).to_have_text("1 / 2")


def test_several_shapes_through_pictures(play: Play, photo: Photo, tmp_path: Path) -> None:
    files = []
    for i in range(FRAMES):
        path = tmp_path / f"look-{i + 1}.png"
        path.write_bytes(cv2.imencode(".png", frame(photo, i))[1].tobytes())
        files.append(path)
    there = play("optical-flow")
    there.choose(*reversed(files))
    at(there, 0)
    expect(there.page.locator(".readout")).to_contain_text("look-1.png")
    there.tool("Polygon")
    for corner in ((200, 70), (262, 75), (265, 130), (232, 168), (195, 140), (200, 70)):
        there.click(*corner)
    there.answered(1)
    assert there.sent[0]["shapes"][0]["type"] == "polygon"
    assert len(there.sent[0]["shapes"][0]["points"]) == 10
    there.tool("Point")
    there.click(207, 113)
    there.answered(2)
    assert there.sent[1]["shapes"][0]["type"] == "points"
    forward_states = []
    for i in (1, 2):
        there.page.get_by_role("button", name="Next picture").click()
        at(there, i)
        there.answered(i + 2)
        forward_states.append(there.sent[-1])
    assert [len(state["states"]) for state in forward_states] == [2, 2]
    assert forward_states[1]["shapes"] == [None, None]
    polygon, point = there.reply["shapes"]
    assert abs(np.mean(polygon["points"][::2]) - (np.mean([200, 262, 265, 232, 195]) + 12)) < 3
    assert abs(point["points"][0] - 219) < 4
    assert abs(point["points"][1] - 119) < 4
    assert there.rows() == ["polygon 1", "points 2"]
    # A shape that is undone here is not tracked from here on.
    there.tool("Undo")
    assert there.rows() == ["polygon 1"]
    there.page.get_by_role("button", name="Next picture").click()
    at(there, 3)
    there.answered(5)
    assert len(there.sent[-1]["states"]) == 1


def test_steps_that_are_too_fast_wait(play: Play, video: Path, tmp_path: Path) -> None:
    there = play("optical-flow")
    there.choose(video)
    at(there, 0)
    there.drag(ASTRONAUT[:2], ASTRONAUT[2:])
    there.answered(1)

    def on() -> bool:
        there.page.keyboard.press(".")
        return there.page.locator(".strip .count").inner_text().startswith(f"{FRAMES} ")

    until(on, "the last frame")
    there.answered(FRAMES)
    # However many steps were requested, each was sent with the states of the previous one.
    for i in range(1, len(there.sent)):
        assert len(there.sent[i]["states"]) == 1, i
    assert there.rows() == ["rectangle 1"]
    # The program of a step has the states in it, and runs.
    name = there.page.locator(".readout").inner_text().partition(",")[0]
    (tmp_path / name).write_bytes(base64.b64decode(there.sent[-1]["image"]))
    assert run(tmp_path, "sh", "-c", program(there, "curl")) == there.reply
    assert run(tmp_path, sys.executable, "-c", program(there, "Python")) == there.reply


def test_the_sample_moves(play: Play) -> None:
    there = play("optical-flow")
    there.sample("Moving astronaut")
    there.drag((82, 12), (144, 76))
    there.answered(1)
    there.page.keyboard.press(".")
    expect(there.page.locator(".strip .count")).to_have_text("2 / 24")
    there.answered(2)
    there.page.keyboard.press(",")
    expect(there.page.locator(".strip .count")).to_have_text("1 / 24")


def test_boxes_are_matched_in_the_next_image(play: Play) -> None:
    there = play("again")
    there.sample("Two views of an astronaut")
    expect(there.page.locator(".status")).to_have_text("Draw boxes on the first picture.")
    there.drag((82, 12), (144, 76))
    there.drag((176, 4), (220, 100))
    expect(there.page.locator(".status")).to_have_text("Draw boxes on the second picture.")
    there.page.get_by_role("button", name="Next picture").click()
    expect(there.page.locator(".strip .count")).to_have_text("2 / 2")
    # The second image is larger and shows more of the right and the lower part.
    there.drag((60, 0), (126, 60))
    there.answered(1)
    sent = there.sent[0]
    assert list(sent) == ["image0", "image1", "boxes0", "boxes1"]
    assert [len(sent["boxes0"]), len(sent["boxes1"])] == [2, 1]
    assert sent["boxes0"][1]["path_id"] == 1
    assert len(there.reply) == 2
    matched = there.reply.index(0) + 1
    assert there.page.locator(".results li").inner_text().startswith(f"#{matched}")
