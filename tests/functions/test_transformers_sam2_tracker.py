"""The SAM 2 tracker with a small model and random weights."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.functions import transformers_models
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.transformers_models import PHOTO

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/transformers/sam2-tracker"
BOX = (182.0, 64.0, 270.0, 172.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with a model, and the model."""
    folder = tmp_path_factory.mktemp("sam2")
    return folder, transformers_models.save_sam2(folder)


@pytest.fixture
def handler(saved: Any, monkeypatch: pytest.MonkeyPatch) -> Handler:
    monkeypatch.setenv("STORAGE_URI", str(saved[0]))
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", str(saved[0]))
    return Handler(FOLDER)


def frames(count: int) -> list[Any]:
    image = np.asarray(Image.open(io.BytesIO(PHOTO)).convert("RGB").crop((0, 0, 512, 384)))
    return [np.roll(image, 8 * number, 1) for number in range(count)]


def request(frame: Any, shapes: Any, states: Any = ()) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    return {"image": image, "shapes": shapes, "states": list(states)}


def test_masks_equal_those_of_a_session_of_the_package(saved: Any) -> None:
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    module = import_module_of(FOLDER, "model_handler")
    model = module.ModelHandler(saved[0], memories=7)
    network, side = saved[1], model.side
    session = Sam2VideoInferenceSession(video_height=384, video_width=512, dtype=torch.float32)
    session.obj_id_to_idx(1)
    scale = torch.tensor([side / 512, side / 384])
    points = {"point_coords": torch.tensor(BOX).reshape(1, 1, 2, 2) * scale}
    session.add_point_inputs(0, 0, {**points, "point_labels": torch.tensor([[[2, 3]]])})
    session.obj_with_new_inputs = [1]
    first, *following = frames(4)
    network(inference_session=session, frame=module.prepare(first, side), frame_idx=0)
    state = model.start(model.embed(first), np.array(BOX))
    for number, frame in enumerate(following, 1):
        outputs = network(
            inference_session=session, frame=module.prepare(frame, side), frame_idx=number
        )
        expected = torch.nn.functional.interpolate(
            outputs.pred_masks, (384, 512), mode="bilinear", align_corners=False
        )
        # States have a byte for each value of the memory.
        state = json.loads(json.dumps(state, default=lambda array: array.tolist()))
        mask, state = model.follow(model.embed(frame), state)
        assert (mask != (expected[0, 0] > 0).numpy()).mean() < 0.01


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "rectangle", "points": list(BOX)},
        {"type": "polygon", "points": [200, 60, 260, 80, 250, 170, 190, 160]},
        {"type": "mask", "points": [0, 88 * 108, 182, 64, 269, 171]},
        list(BOX),
    ],
    ids=["rectangle", "polygon", "mask", "flat"],
)
def test_each_type_of_shape_is_followed(handler: Handler, shape: Any) -> None:
    first, *following = frames(3)
    status, content = handler(request(first, [shape]))
    assert status == 200, content
    assert content["shapes"] == [shape]
    for frame in following:
        # Another worker gets the state as CVAT signs it: as JSON.
        states = json.loads(json.dumps(content["states"]))
        status, content = handler(request(frame, [None], states))
        assert status == 200, content
        (followed,) = content["shapes"]
        if isinstance(shape, list):
            assert len(followed) == 4
        else:
            assert followed["type"] == shape["type"]


def test_states_stay_small(handler: Handler) -> None:
    first, *following = frames(6)
    shapes = [{"type": "rectangle", "points": list(BOX)}] * 2
    _, content = handler(request(first, shapes))
    sizes = []
    for frame in following:
        _, content = handler(request(frame, [None, None], content["states"]))
        sizes.append(len(content["states"][0]))
    assert len(content["states"]) == 2
    # The model has 16 x 16 x 64 values for a frame, of which three are remembered.
    assert max(sizes) < 3 * 16 * 16 * 64 * 1.4 + 10_000
    assert max(sizes[2:]) - min(sizes[2:]) < 0.05 * max(sizes)


def test_foreign_states_and_shapes_are_refused(handler: Handler) -> None:
    (frame,) = frames(1)
    status, content = handler(request(frame, [None], ["no state"]))
    assert status == 400
    assert content["error"].startswith("this state is not one of this tracker's")
    status, content = handler(request(frame, [{"type": "ellipse", "points": [1, 2, 3, 4]}]))
    assert status == 400
    assert "must be one of mask, polygon, rectangle" in content["error"]


def test_a_state_of_another_model_is_refused(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = frames(2)
    _, content = handler(request(first, [list(BOX)]))
    transformers_models.save_sam2(tmp_path, side=128)
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", str(tmp_path))
    status, reply = Handler(FOLDER)(request(second, [None], content["states"]))
    assert status == 400
    assert reply["error"].startswith("this state is of another model")
