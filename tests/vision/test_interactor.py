"""Interactors: prompts, masks as CVAT reads them, and embeddings that workers share."""

import fcntl
import multiprocessing
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fnbuild import vision
from fnbuild.cvat.replies import read_reply
from fnbuild.vision.embedding_cache import EmbeddingCache
from tests.vision.bases import Exported

IMAGE = np.zeros((30, 40, 3), np.uint8)


def square():
    mask = np.zeros((30, 40), bool)
    mask[5:15, 10:20] = True
    mask[6, 11] = False
    return mask


class Square(vision.Interactor):
    """Answers every prompt with the same masks."""

    result: Any = None
    prompt: Any = None

    def predict(self, image, prompt):
        self.prompt = prompt
        return self.result


def interactor(result, **attributes):
    return Exported(type("Sample", (Square,), {"result": result, **attributes}))


def accepted(function, **values):
    status, content = function(IMAGE, **values)
    assert status == 200, content
    reading = read_reply("interactor", content, [], (40, 30))
    assert reading.diagnostics == ()
    return content, reading.shapes


def test_prompts_are_arrays():
    function = interactor(None)
    values = {"pos_points": [[1, 2], [3.5, 4]], "obj_bbox": [[5, 6], [7, 8]], "threshold": 0.25}
    assert accepted(function, text_prompts=["cat"], **values)[0] == {"shapes": []}
    prompt = function.function.prompt
    assert prompt.positive.tolist() == [[1, 2], [3.5, 4]]
    assert prompt.negative.shape == (0, 2)
    assert prompt.box.tolist() == [5, 6, 7, 8]
    assert (prompt.threshold, prompt.texts, prompt.size) == (0.25, ["cat"], (40, 30))
    accepted(function, pos_points=[[1, 2]], obj_bbox=None)
    assert function.function.prompt[2] is None
    accepted(function, obj_bbox=[1, 2, 3, 4])
    assert function.function.prompt.box.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "send a point on the object or a box"),
        ({"neg_points": [[1, 2]]}, "send a point on the object or a box"),
        ({"pos_points": [[1]]}, '"pos_points" must be a list of [x, y]'),
        ({"pos_points": [[1, float("nan")]]}, '"pos_points" must have finite numbers'),
        ({"obj_bbox": [[1, 2]]}, '"obj_bbox" must be [] or [[left'),
        ({"obj_bbox": [[1, 2], [1, 3]]}, "the box has no area"),
        ({"pos_points": [[1, 2]], "threshold": 2}, '"threshold" must be a number'),
        ({"text_prompts": [1]}, '"text_prompts" must be'),
    ],
)
def test_invalid_prompts(values, message):
    status, content = interactor(None)(IMAGE, **values)
    assert status == 400
    assert message in content["error"]


def test_a_function_may_need_no_prompt():
    assert interactor(None, needs_prompt=False)(IMAGE) == (200, {"shapes": []})


def test_masks_have_run_lengths_and_a_confidence():
    result = [(square(), 0.5), (~square(), 0.75), (np.zeros((30, 40)), 0.9), (square(), 0.1)]
    content, shapes = accepted(interactor(result), pos_points=[[1, 2]], threshold=0.3)
    assert [shape.confidence for shape in shapes] == [0.75, 0.5]
    assert content["shapes"][1]["attributes"] == [{"spec_id": 0, "value": "0.5000"}]
    points = content["shapes"][1]["points"]
    assert points[:5] == [0, 11, 1, 88, 10]
    assert (vision.decode_mask(points, (40, 30)) == square()).all()
    assert (vision.decode_mask(content["shapes"][0]["points"], (40, 30)) == ~square()).all()


@pytest.mark.parametrize(
    "result",
    [
        square(),
        torch.from_numpy(square()),
        [square()],
        (square().astype(np.uint8) * 255, None),
        vision.Detections(masks=[square()]),
    ],
)
def test_results_of_every_form(result):
    content, (shape,) = accepted(interactor(result), pos_points=[[1, 2]])
    assert shape.mask.area == 99
    assert content["shapes"][0]["attributes"] == []


def test_older_versions_of_cvat_get_the_best_mask():
    function = interactor([(~square(), 0.5), (square(), 0.75)], reply_format="mask")
    content, _ = accepted(function, pos_points=[[1, 2]])
    assert content == {"mask": square().astype(int).tolist()}
    assert interactor(None, reply_format="mask")(IMAGE, pos_points=[[1, 2]])[1] == {
        "mask": [[0] * 40] * 30
    }


def test_boxes_are_no_result_of_an_interactor():
    with pytest.raises(TypeError, match="an interactor returns masks"):
        interactor(vision.Detections([[1, 2, 3, 4]]))(IMAGE, pos_points=[[1, 2]])


def test_a_mask_of_another_size_is_explained():
    with pytest.raises(ValueError, match="30 rows and 40 columns, not 3 x 4"):
        interactor(np.ones((3, 4)))(IMAGE, pos_points=[[1, 2]])


@pytest.mark.parametrize("numbers", [[], [1.5, 0, 0, 0, 0], [2, 0, 0, 0, 0], [1, 0, 0, 99, 99]])
def test_invalid_run_lengths(numbers):
    with pytest.raises(ValueError, match=r"(the|a) mask"):
        vision.decode_mask(numbers, (40, 30))


class Embedding(vision.Interactor):
    """Counts its embeddings."""

    calls = 0

    def embed(self, image):
        self.calls += 1
        features = torch.arange(6, dtype=torch.float32).reshape(2, 3) + image[0, 0, 0]
        return {"features": [features, np.array([], np.int16)], "scale": 0.5, "name": "x"}

    def predict(self, embedding, prompt):
        assert prompt.size == (40, 30)
        assert (embedding["scale"], embedding["name"]) == (0.5, "x")
        features, empty = embedding["features"]
        assert (features.dtype, empty.dtype, len(empty)) == (np.float32, np.int16, 0)
        features += 1  # a private copy
        mask = square()
        mask[0, 0] = features[1, 2] > 7
        return mask


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setattr(EmbeddingCache.__init__, "__defaults__", (str(tmp_path),))
    return tmp_path


def entries(folder):
    return sorted(path.name for path in folder.glob("fnbuild-embeddings-*/[0-9a-f]*"))


def test_the_second_click_needs_no_embedding(shared):
    function = Exported(Embedding)
    first = accepted(function, pos_points=[[1, 2]])[0]
    assert accepted(function, pos_points=[[3, 4]])[0] == first
    assert function.function.calls == 1
    # Another worker of the same function.
    other = Exported(Embedding)
    assert accepted(other, pos_points=[[1, 2]])[0] == first
    assert other.function.calls == 0
    bright = function(IMAGE + 9, pos_points=[[1, 2]])[1]
    assert bright != first
    assert (function.function.calls, len(entries(shared))) == (2, 2)


def test_changed_code_does_not_use_older_embeddings(shared, monkeypatch):
    folder = shared / "code"
    folder.mkdir()
    module = types.SimpleNamespace(__file__=str(folder / "main.py"))
    monkeypatch.setitem(sys.modules, "embedding_code", module)

    def calls():
        # A worker imports the module, or imports it again.
        own = Exported(type("Own", (Embedding,), {"__module__": "embedding_code"}))
        accepted(own, pos_points=[[1, 2]])
        return own.function.calls

    assert [calls(), calls()] == [1, 0]
    (folder / "model.py").write_text("SIZE = 7\n")
    assert [calls(), calls()] == [1, 0]


def test_the_oldest_embeddings_make_room(shared):
    function = Exported(type("Small", (Embedding,), {"cache_bytes": 700}))
    for brightness in (0, 1, 2, 0):
        assert function(IMAGE + brightness, pos_points=[[1, 2]])[0] == 200
    assert function.function.calls == 4
    assert len(entries(shared)) == 2
    function(IMAGE + 2, pos_points=[[1, 2]])
    assert function.function.calls == 4
    none = Exported(type("Tiny", (Embedding,), {"cache_bytes": 10}))
    for _ in range(2):
        assert none(IMAGE, pos_points=[[1, 2]])[0] == 200
    assert none.function.calls == 2


def test_a_broken_image_is_not_cached(shared):
    function = Exported(Embedding)
    assert function(image=None, pos_points=[[1, 2]])[0] == 400
    assert entries(shared) == []


def _fill(root, ready, finish):
    cache = EmbeddingCache("same", 1000, root)
    cache.put("aa", b"from a worker")
    ready.set()
    finish.wait(60)
    cache.close()


def test_the_last_worker_removes_the_folder(tmp_path):
    root = str(tmp_path)
    context = multiprocessing.get_context("fork")
    ready, finish = context.Event(), context.Event()
    # Both are children of this process, like workers of a processor.
    workers = [context.Process(target=_fill, args=(root, ready, finish)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert ready.wait(60)
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "aa").read_bytes() == b"from a worker"
    finish.set()
    for worker in workers:
        worker.join(60)
    assert list(tmp_path.iterdir()) == []


def test_one_worker_at_a_time_stores_an_embedding(tmp_path):
    # Else several would find room for the last one.
    cache = EmbeddingCache("same", 5000, str(tmp_path))
    cache.put("aa", bytes(1000))
    with (Path(cache.folder) / ".put").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=cache.put, args=("bb", bytes(1000)))
        thread.start()
        thread.join(0.3)
        assert entries(tmp_path) == ["aa"]
    thread.join(60)
    assert entries(tmp_path) == ["aa", "bb"]
    cache.close()


def test_a_large_embedding_leaves_the_others(tmp_path):
    cache = EmbeddingCache("x", 5000, str(tmp_path))
    cache.put("aa", bytes(1000))
    cache.put("bb", bytes(5001))
    assert entries(tmp_path) == ["aa"]
    cache.close()


def test_folders_of_killed_workers_are_removed(tmp_path):
    stale = tmp_path / f"fnbuild-embeddings-{os.getuid()}-1-1-x"
    foreign = tmp_path / "fnbuild-embeddings-99999-1-1-x"
    for folder in (stale, foreign):
        folder.mkdir(mode=0o700)
        (folder / ".lock").touch()
        (folder / "aa").write_bytes(b"x")
    cache = EmbeddingCache("new", 1000, str(tmp_path))
    cache.put("bb", b"data")
    assert not stale.exists()
    assert foreign.exists()
    assert bytes(cache.get("bb")) == b"data"
    assert cache.get("cc") is None
    cache.close()
    assert not Path(cache.folder).exists()


def test_a_folder_that_others_can_enter_is_not_removed(tmp_path):
    # Anyone may make a folder with this name in shared memory.
    foreign = tmp_path / f"fnbuild-embeddings-{os.getuid()}-1-1-x"
    foreign.mkdir()
    foreign.chmod(0o755)
    (foreign / ".lock").touch()
    cache = EmbeddingCache("new", 1000, str(tmp_path))
    cache.put("bb", b"data")
    assert foreign.exists()
    assert bytes(cache.get("bb")) == b"data"
    cache.close()


def test_a_folder_that_others_can_read_is_not_used(tmp_path):
    first = EmbeddingCache("x", 1000, str(tmp_path))
    first.put("aa", b"data")
    Path(first.folder).chmod(0o755)
    second = EmbeddingCache("x", 1000, str(tmp_path))
    second.put("bb", b"data")
    assert second.get("aa") is None
    assert second.get("bb") is None
    first.close()
