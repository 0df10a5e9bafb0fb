"""Segmentation of generated scenes, and with networks of others."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.test_shapes import file_of

pytestmark = [
    pytest.mark.system,
    # Networks of users come as TorchScript, although torch recommends other formats.
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

FOLDER = ROOT / "functions/torch/segmentation"
LABELS = labels.function_labels(load_function(FOLDER).function)
scenes = import_module_of(FOLDER, "scenes")
segments = import_module_of(FOLDER, "segments")


@pytest.fixture(scope="module")
def function() -> Handler:
    return Handler(FOLDER)


def segment(function: Handler, image: Any, **options: Any) -> dict[str, Any]:
    """Return the mask of each label, of the image's size, from a reply that CVAT accepts."""
    sent = build_request("detector", file_of(image), **options)
    status, content = function(sent.body)
    assert status == 200, content
    reply = read_reply("detector", content, LABELS, sent.image.size, sent)
    assert [str(problem) for problem in reply.diagnostics] == []
    masks = {}
    for item in content:
        *pixels, left, top, right, bottom = item["mask"]
        mask = np.zeros(image.shape[:2], bool)
        shape = (bottom - top + 1, right - left + 1)
        mask[top : bottom + 1, left : right + 1] = np.reshape(pixels, shape) != 0
        assert item["label"] not in masks
        masks[item["label"]] = mask
    return masks


def overlap(mask: Any, other: Any) -> float:
    return float((mask & other).sum() / max((mask | other).sum(), 1))


def test_the_parts_of_unseen_scenes(function):
    random = np.random.default_rng(77)
    names = [label.name for label in LABELS]
    shared, joined = np.zeros(4), np.zeros(4)
    for size in ((320, 240), (240, 320), (640, 400), (200, 200)) * 4:
        image, classes = scenes.scene(random, *size)
        masks = segment(function, image)
        for i, name in enumerate(names):
            mask = masks.get(name, np.zeros(classes.shape, bool))
            shared[i] += (mask & (classes == i + 1)).sum()
            joined[i] += (mask | (classes == i + 1)).sum()
    shares = dict(zip(names, shared / joined, strict=True))
    assert min(shares.values()) > 0.8, shares


def test_masks_of_a_photograph_do_not_overlap(function, photo):
    image = cv2.imread(str(photo("rocket.jpg")))[:, :, ::-1]
    masks = segment(function, image, threshold=0.01)
    assert masks
    assert np.sum(list(masks.values()), axis=0).max() == 1
    sure = segment(function, image, threshold=0.8)
    assert set(sure) <= set(masks)


class Bright(torch.nn.Module):
    """Class 2 where the red channel is bright, else class 0; at a quarter of the size."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        small = torch.nn.functional.avg_pool2d(images[:, :1], 4)
        none = torch.full_like(small, -20.0)
        return {"out": torch.cat([-10 * small, none, 10 * small, none, none], 1)}


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_network_in_torchscript(form, monkeypatch, tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.script(Bright()).save(path)
    monkeypatch.setenv("STORAGE_URI", str(path if form == "file" else tmp_path))
    image = np.zeros((200, 300, 3), np.uint8)
    image[40:120, 100:260] = 255
    masks = segment(Handler(FOLDER), image)
    assert list(masks) == ["road"]
    assert overlap(masks["road"], image[:, :, 0] > 0) > 0.9


def test_classes_are_chosen_one_at_a_time():
    chances = np.random.default_rng(1).dirichlet(np.ones(6), (20, 30)).transpose(2, 0, 1)
    classes, best = segments.largest(chances.astype(np.float32), (90, 61))
    scaled = np.stack([cv2.resize(each, (90, 61)) for each in chances.astype(np.float32)])
    assert (classes == scaled.argmax(0)).all()
    assert best == pytest.approx(scaled.max(0))


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (33, 31)])
def test_pictures_of_every_size(function, size):
    image = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    segment(function, image)


@pytest.mark.parametrize("count", [0, 2])
def test_a_folder_without_one_network_is_reported(count, monkeypatch, tmp_path):
    for number in range(count):
        (tmp_path / f"{number}.pt").touch()
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    with pytest.raises(SystemExit, match=r"one is needed"):
        Handler(FOLDER)


@pytest.mark.parametrize("content", [{"conv.weight": torch.zeros(1)}, [1]])
def test_weights_of_another_network_are_reported(monkeypatch, tmp_path, content):
    torch.save(content, tmp_path / "own.pt")
    monkeypatch.setenv("STORAGE_URI", str(tmp_path / "own.pt"))
    with pytest.raises(SystemExit, match=r"own\.pt has neither TorchScript .*\(.+\)"):
        Handler(FOLDER)
