"""Re-identification by embeddings: people in generated streets, and objects of photographs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.test_shapes import file_of

pytestmark = [
    pytest.mark.system,
    # Networks of users come as TorchScript, although torch recommends other formats.
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

FOLDER = ROOT / "functions/torch/reid"
walkers = import_module_of(FOLDER, "walkers")
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "brick.png")


@pytest.fixture(scope="module")
def function() -> Handler:
    return Handler(FOLDER)


def match(function: Handler, images: Any, boxes: Any, **options: Any) -> list[int]:
    """Return the match of each box of the first image, from a reply that CVAT accepts."""
    first, second = (file_of(image) for image in images)
    sent = build_request("reid", first, image1=second, boxes=boxes[0], boxes1=boxes[1], **options)
    status, content = function(sent.body)
    assert status == 200, content
    reply = read_reply("reid", content, [], sent.image.size, sent)
    assert [str(problem) for problem in reply.diagnostics] == []
    return list(reply.matches)


def test_people_who_change_places(function):
    random = np.random.default_rng(8)
    right = total = 0
    for _ in range(12):
        people = [walkers.Walker(random) for _ in range(5)]
        order = random.permutation(5)
        frames, boxes = [], []
        for crowd in (people, [people[i] for i in order]):
            places = [(50 + i * 75, 180 + random.normal(0, 8), random.uniform(80, 140))
                      for i in range(5)]  # fmt: skip
            image, frame_boxes = walkers.frame(random, crowd, places, 400, 220)
            frames.append(image)
            boxes.append(frame_boxes)
        matches = match(function, frames, boxes, max_distance=1000)
        right += sum(int(order[j]) == i for i, j in enumerate(matches) if j >= 0)
        total += 5
    assert right / total > 0.9, f"{right} of {total} people are recognized"


def objects(photo: Any, order: list[int], gain: float, shift: int) -> tuple[Any, Any]:
    """Return an image with parts of photographs in this order, and their boxes."""
    image = np.full((200, 700, 3), 120, np.uint8)
    boxes = []
    for place, number in enumerate(order):
        part = cv2.resize(cv2.imread(str(photo(PHOTOS[number]))), (110, 120))[:, :, ::-1]
        left, top = 15 + 135 * place + shift, 40 - shift
        image[top : top + 120, left : left + 110] = (part * gain).clip(0, 255)
        boxes.append((left, top, left + 110, top + 120))
    return image, boxes


def test_objects_of_photographs_in_other_light(function, photo):
    order = [3, 0, 4, 2, 1]
    first, boxes = objects(photo, [0, 1, 2, 3, 4], 1.0, 0)
    second, others = objects(photo, order, 0.8, 7)
    matches = match(function, (first, second), (boxes, others), max_distance=1000)
    assert matches == [order.index(i) for i in range(5)]
    # Whoever is too far away is another one.
    assert match(function, (first, first), (boxes[:1], boxes[4:]), max_distance=50) == [-1]
    assert match(function, (first, second), (boxes, []), max_distance=50) == [-1] * 5


class MeanColour(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.shape[2] == 96
        assert pictures.shape[3] == 48
        return pictures.mean((2, 3))


def test_a_network_in_torchscript(monkeypatch, tmp_path):
    torch.jit.script(MeanColour()).save(tmp_path / "reid.pt")
    monkeypatch.setenv("STORAGE_URI", str(tmp_path / "reid.pt"))
    monkeypatch.setenv("REID_SIZE", "96x48")
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, :100, 0] = image[:, 100:200, 1] = image[:, 200:, 2] = 200
    boxes = [(0, 0, 90, 90), (100, 0, 190, 90), (200, 0, 290, 90)]
    order = [2, 0, 1]
    function = Handler(FOLDER)
    others = [boxes[i] for i in order]
    assert match(function, (image, image), (boxes, others), max_distance=500) == [1, 2, 0]


def test_tiny_boxes_and_boxes_at_the_edge(function):
    image = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    boxes = [(0, 0, 1, 1), (59, 39, 60, 40), (10, 10, 11, 40)]
    assert len(match(function, (image, image), (boxes, boxes))) == 3


@pytest.mark.parametrize("content", [{"conv.weight": torch.zeros(1)}, [1]])
def test_weights_of_another_network_are_reported(monkeypatch, tmp_path, content):
    torch.save(content, tmp_path / "own.pt")
    monkeypatch.setenv("STORAGE_URI", str(tmp_path / "own.pt"))
    with pytest.raises(SystemExit, match=r"own\.pt has neither TorchScript .*\(.+\)"):
        Handler(FOLDER)
