"""The playground as a user operates it: images, tools, and the pixels of the canvas."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, Request, Response, expect

from tests.dashboard.waiting import until

Point = tuple[float, float]
Colour = tuple[int, int, int]

_PIXELS = """
(canvas, places) => {
  const context = canvas.getContext("2d");
  return places.map(([x, y]) => Array.from(context.getImageData(x, y, 1, 1).data.slice(0, 3)));
}
"""
_DROP = """
([selector, kind, name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
    : new DragEvent(kind, { ...options, dataTransfer: transfer });
  document.querySelector(selector).dispatchEvent(event);
}
"""


class Playground:
    """The playground of a function in a page. `sent` are the bodies of its requests so far."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.sent: list[Any] = []
        self._answers: list[Response] = []
        page.on("request", self._hear)
        page.on("response", self._hear_answer)
        self.canvas = page.locator("canvas.picture")
        page.locator(".playground").wait_for()

    def _hear(self, request: Request) -> None:
        if request.url.endswith("/api/function_invocations"):
            self.sent.append(json.loads(request.post_data or "null"))

    def _hear_answer(self, response: Response) -> None:
        if response.url.endswith("/api/function_invocations"):
            self._answers.append(response)

    # Pictures

    def choose(self, *files: Path) -> None:
        """Choose files in the dialog."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator(".stage-bar button").first.click()
        chooser.value.set_files(files)
        expect(self.page.locator(".readout")).not_to_be_empty()

    def sample(self, name: str) -> None:
        self.page.locator(".welcome").get_by_role("button", name=name, exact=True).click()
        expect(self.page.locator(".readout")).not_to_be_empty()

    def hand(self, kind: str, path: Path, type_: str) -> None:
        """Pass a file with the event `drop` or `paste`."""
        data = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(_DROP, [".stage", kind, path.name, type_, data])

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height of the image."""
        match = re.search(r", (\d+) . (\d+)( ·.*)?$", self.page.locator(".readout").inner_text())
        assert match is not None
        return int(match[1]), int(match[2])

    # Pointing: positions are pixels of the image, which is shown completely

    def at(self, x: float, y: float) -> Point:
        """Return the position in the window, relative to the canvas, of a position in the image."""
        [place] = self._places([(x, y)])
        return place

    def _places(self, positions: Iterable[Point]) -> list[Point]:
        box = self.canvas.bounding_box()
        assert box is not None
        width, height = self.size
        scale = min(box["width"] / width, box["height"] / height)
        left = (box["width"] - width * scale) / 2
        top = (box["height"] - height * scale) / 2
        return [(left + x * scale, top + y * scale) for x, y in positions]

    def click(self, x: float, y: float, button: Any = "left") -> None:
        place = self.at(x, y)
        self.canvas.click(position={"x": place[0], "y": place[1]}, button=button)

    def drag(self, start: Point, end: Point) -> None:
        # The position must not be below the bar at the top.
        self.canvas.evaluate("one => one.scrollIntoView({ block: 'center' })")
        box = self.canvas.bounding_box()
        assert box is not None
        (x, y), (to_x, to_y) = self.at(*start), self.at(*end)
        mouse = self.page.mouse
        mouse.move(box["x"] + x, box["y"] + y)
        mouse.down()
        mouse.move(box["x"] + (x + to_x) / 2, box["y"] + (y + to_y) / 2)
        mouse.move(box["x"] + to_x, box["y"] + to_y)
        mouse.up()

    def tool(self, name: str) -> None:
        group = self.page.get_by_role("group", name="Tools")
        group.get_by_role("button", name=name, exact=True).click()

    # Replies

    def answered(self, count: int) -> None:
        """Wait until that many requests were sent and the last reply is shown and checked."""
        # A waiting page must handle its events.
        until(lambda: self._has_replies(count), f"{count} replies to {self.name}")
        expect(self.page.locator(".playground")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator(".panel-findings > *").first).to_be_visible()
        self.settled()
        assert len(self.sent) == count, [list(body) for body in self.sent]

    def _has_replies(self, count: int) -> bool:
        self.page.wait_for_timeout(10)
        return len(self._answers) >= count

    @property
    def reply(self) -> Any:
        """Return the last reply."""
        return self._answers[-1].json()

    def rows(self) -> list[str]:
        return self.page.locator(".results .result-name").all_inner_texts()

    def pixel(self, x: float, y: float) -> Colour:
        """Return the canvas's colour at a position in the image."""
        [colour] = self.pixels([(x, y)])
        return colour

    def pixels(self, positions: Iterable[Point]) -> list[Colour]:
        """Return the canvas's colours at positions in the image."""
        return self.drawn(self._places(positions))

    def drawn(self, places: Iterable[Point]) -> list[Colour]:
        """Return the colours at positions relative to the canvas."""
        ratio = self.page.evaluate("devicePixelRatio")
        where = [[round(value * ratio - 0.5) for value in place] for place in places]
        return [(red, green, blue) for red, green, blue in self.canvas.evaluate(_PIXELS, where)]

    def settled(self) -> None:
        """Wait until changes are drawn."""
        self.page.evaluate("() => new Promise((go) => requestAnimationFrame(() => setTimeout(go)))")

    def saved(self) -> Image.Image:
        """Return the image as saved with the drawing, in its own size."""
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Save picture").click()
        return Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("RGB")


def alike(first: Sequence[int], second: Sequence[int], slack: int = 40) -> bool:
    """Return True if two colours are nearly equal: edges of lines are smoothed."""
    return all(abs(a - b) <= slack for a, b in zip(first, second, strict=True))


def program(there: Playground, way: str) -> str:
    """Return the request as the page writes it for `curl` or `Python`."""
    there.page.get_by_text("Request as code").click()
    panel = there.page.locator(".panel-program")
    panel.get_by_role("button", name=way, exact=True).click()
    text = panel.locator("pre").text_content()
    there.page.get_by_text("Request as code").click()
    assert text
    return text


def run(folder: Path, *command: str) -> object:
    """Run a program in the folder of its images; return its output."""
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, env=environment, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
