"""Trackers: shapes in, states that any worker understands, shapes out."""

import json

import numpy as np
import pytest
import torch

from fnbuild import vision
from fnbuild.cvat.replies import read_reply
from fnbuild.vision.packing import pack, pack_text, unpack, unpack_texts
from tests.vision.bases import Exported

IMAGE = np.zeros((60, 80, 3), np.uint8)


class Shifting(vision.Tracker):
    """Moves each shape by 10 pixels to the right; loses it at the edge."""

    types = ("rectangle", "polygon", "points", "mask")

    def start(self, image, shape):
        assert shape.size == (80, 60)
        return {"points": shape.points, "type": shape.type, "steps": 0, "raw": b"\0\xff"}

    def follow(self, image, state):
        assert state["raw"] == b"\0\xff"
        points = state["points"]
        points = np.roll(points, 10, 1) if state["type"] == "mask" else points + np.array([10, 0])
        if state["type"] != "mask" and points[:, 0].max() > 80:
            return None, None
        state = dict(state, points=points, steps=state["steps"] + 1)
        return vision.TrackedShape(state["type"], points), state


def track(values, function=None):
    status, content = (function or Exported(Shifting))(IMAGE, **values)
    assert status == 200, content
    reading = read_reply("tracker", content, [], (80, 60))
    assert not reading.violations
    # As CVAT signs them: compact JSON.
    return content["shapes"], json.loads(json.dumps(content["states"]))


RECTANGLE = {"type": "rectangle", "points": [5, 10, 45, 40]}


def test_shapes_are_followed_by_any_worker():
    polygon = {"type": "polygon", "points": [1, 1, 9, 1, 9, 9]}
    shapes, states = track({"shapes": [RECTANGLE, polygon], "states": []})
    assert shapes == [RECTANGLE, polygon]
    for step in (1, 2, 3):
        shapes, states = track({"shapes": [None, None], "states": states})
        assert shapes[0]["points"] == [5 + 10 * step, 10, 45 + 10 * step, 40]
        assert shapes[1]["points"][:2] == [1 + 10 * step, 1]
    # The rectangle is lost and stays; the polygon goes on.
    shapes, states = track({"shapes": [None, None], "states": states})
    assert shapes[0]["points"] == [35, 10, 75, 40]
    assert shapes[1]["points"][:2] == [41, 1]


def test_flat_lists_of_older_versions():
    shapes, states = track({"shapes": [[5, 10, 45, 40]]})
    assert shapes == [[5, 10, 45, 40]]
    shapes, _ = track({"shapes": shapes, "states": states})
    assert shapes == [[15, 10, 55, 40]]


def test_masks_are_arrays_for_the_author():
    mask = np.zeros((60, 80), bool)
    mask[20:30, 5:15] = True
    shape = {"type": "mask", "points": vision.encode_mask(mask)}
    shapes, states = track({"shapes": [shape]})
    assert shapes == [shape]
    assert len(states[0]) < 1000
    shapes, _ = track({"shapes": [None], "states": states})
    assert shapes[0]["points"][-4:] == [15, 20, 24, 29]
    assert vision.TrackedShape("mask", mask).box.tolist() == [5, 20, 15, 30]


def test_shapes_are_clipped_to_the_image():
    class Jumping(Shifting):
        def follow(self, image, state):
            return vision.TrackedShape("rectangle", [-50, -50, -10, 20]), state

    _, states = track({"shapes": [RECTANGLE]})
    shapes, _ = track({"shapes": [None], "states": states}, Exported(Jumping))
    assert shapes[0]["points"] == [0, 0, 1, 20]


@pytest.mark.parametrize(
    "values",
    [
        {"shapes": None},
        {"shapes": [[1, 2, 3]]},
        {"shapes": [[5, 5, 1, 1]]},
        {"shapes": [[0, 0, 1, 1e9]]},
        {"shapes": [None]},
        {"shapes": [{"type": "cuboid", "points": [1] * 16}]},
        {"shapes": [{"type": "polygon", "points": [1, 1, 2, 2]}]},
        {"shapes": [{"type": "mask", "points": [5, 0, 0, 1, 1]}]},
        {"shapes": [{"type": "points", "points": ["a", "b"]}]},
        {"shapes": [None], "states": [{"box": 1}]},
        {"shapes": [None], "states": ["x"]},
        {"shapes": [None], "states": [pack_text({"state": 1})]},
    ],
)
def test_invalid_shapes_and_states(values):
    status, content = Exported(Shifting)(IMAGE, **values)
    assert status == 400
    assert content["error"]


def test_one_embedding_of_a_frame_for_all_its_shapes(tmp_path):
    class Embedding(Shifting):
        calls = 0

        def embed(self, image):
            self.calls += 1
            return image[:2, :2]

        def start(self, embedding, shape):
            assert embedding.shape == (2, 2, 3)
            return super().start(embedding, shape)

    function = Exported(Embedding)
    track({"shapes": [RECTANGLE] * 3}, function)
    assert function.function.calls == 1


VALUE = {
    "text": "ü",
    "none": None,
    "list": [1, 2.5, True, [b"\x00", bytearray(b"12")]],
    "arrays": {
        str(dtype): np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in ("bool", "uint8", "int64", "float16", "float32", "complex64", ">i4")
    },
    "number": np.float32(0.5),
    "tensor": torch.ones(2, 2, dtype=torch.bfloat16),
    "column": np.arange(12).reshape(3, 4)[:, ::2],
    "empty": np.empty((0, 3)),
}


def same(first, second):
    if isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in second)
    if isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if hasattr(second, "shape"):
        array = np.asarray(second.float() if hasattr(second, "float") else second)
        return first.dtype == array.dtype and first.shape == array.shape and (first == array).all()
    return first == second


def test_packed_values_are_restored():
    assert same(unpack(pack(VALUE)), VALUE)
    (restored,) = unpack_texts([pack_text(VALUE)])
    assert same(restored, VALUE)
    restored["column"] += 1


@pytest.mark.parametrize("value", [object(), {1: 2}, {"\0array": 1}, np.array(["text"]), {1, 2}])
def test_other_values_cannot_be_packed(value):
    with pytest.raises(TypeError):
        pack(value)


def header(text):
    data = b"FNBV" + len(text).to_bytes(4, "little") + text
    return data + bytes(-len(data) % 64) + bytes(64)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        header(b'{"\\u0000array": ["O", [1], 0]}'),
        header(b'{"\\u0000array": ["<f8", [1000], 0]}'),
        header(b'{"\\u0000array": ["<f8", [-1], 0]}'),
        header(b'{"\\u0000array": ["nonsense", [1], 0]}'),
        header(b'{"\\u0000array": ["<f8", [1], %d]}' % 10**30),
        header(b'{"\\u0000array": ["<f8", [%d], 0]}' % 10**30),
        header(b'{"\\u0000array": 1}'),
        header(b"{"),
    ],
)
def test_hostile_bytes_are_an_error(data):
    with pytest.raises(ValueError, match=r"."):
        unpack(data)


def test_hostile_text_is_an_error(monkeypatch):
    text = pack_text(VALUE)
    for wrong in ("***", "aGVsbG8=", text[: len(text) // 8 * 4], "ä", None, {"box": 1}):
        with pytest.raises(ValueError, match=r"."):
            unpack_texts([text, wrong])
    monkeypatch.setattr("fnbuild.vision.packing._MAX_UNPACKED", 100_000)
    text = pack_text(np.zeros(10_000))
    assert len(text) < 1000
    with pytest.raises(ValueError, match="more than 100000 bytes"):
        unpack_texts([text, text])
    assert len(unpack_texts([text])) == 1
