"""What functions of the library are built on here, and what they have to say about pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fnbuild.check.reply import Shape, read
from fnbuild.check.request import build, read_image
from fnbuild.runtime.http.client import request
from fnbuild.spec import labels
from fnbuild.spec.reader import load
from fnbuild.spec.types import Function
from tests.containers import bases
from tests.engine import PYTHON_IMAGE
from tests.functions.test_opencv import ASTRONAUT, BUS_LEFT, likeness
from tests.functions.test_shapes import file_of, hits, picture

Photo = Callable[[str], Path]


def _face(photo: Photo, ask: Callable[[bytes], tuple[Shape, ...]]) -> None:
    (face,) = ask(read_image(photo("astronaut.png")))
    assert likeness(face.points, ASTRONAUT) > 0.7


def _people(photo: Photo, ask: Callable[[bytes], tuple[Shape, ...]]) -> None:
    found = ask(read_image(photo("bus.jpg")))
    assert max(likeness(each.points, BUS_LEFT) for each in found) > 0.6


def _shapes(_: Photo, ask: Callable[[bytes], tuple[Shape, ...]]) -> None:
    random = np.random.default_rng(2028)
    right = there = 0
    for _ in range(12):
        image, shapes = picture(random, 320, 240)
        right += hits(ask(file_of(image)), shapes)
        there += len(shapes)
    assert right / there > 0.8


@dataclass(frozen=True)
class Case:
    """A base image that can be had here for a function, and the judgement on the replies."""

    base: Callable[[Function], str]
    judge: Callable[[Photo, Callable[[bytes], tuple[Shape, ...]]], None]


def _python(function: Function) -> str:
    # Two functions have one line: who removes the first image takes nothing from the second.
    bases.with_lines_of(function)
    return PYTHON_IMAGE


def _torch(_: Function) -> str:
    return bases.with_torch()


CASES = {
    "face-haar": Case(_python, _face),
    "people-hog": Case(_python, _people),
    # Its own line finds torch there already.
    "shapes": Case(_torch, _shapes),
}


def check(folder: Path, url: str, photo: Photo) -> None:
    """Have the function at `url` judge pictures, and refuse what is none."""
    declared = labels.of(load(folder).function)

    def ask(image: bytes) -> tuple[Shape, ...]:
        sent = build("detector", image)
        headers = {"Content-Type": sent.content_type}
        answer = request("POST", url, "/", sent.body, headers)
        assert answer.status == 200, answer.body
        reading = read("detector", answer.body, declared, sent.picture.size, sent)
        assert [str(problem) for problem in reading.problems] == []
        return reading.shapes

    CASES[folder.name].judge(photo, ask)
    wrong = request("POST", url, "/", b"raw", {"Content-Type": "text/plain"})
    assert wrong.status == 400
    assert json.loads(wrong.body)["error"]
