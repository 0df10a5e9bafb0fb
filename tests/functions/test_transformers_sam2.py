"""The SAM 2 function with a small model and random weights."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fnbuild.cvat.request import build_request
from tests.functions import transformers_models
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.transformers_models import PHOTO

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/transformers/sam2"
CLICKS, BESIDE = [(250.0, 110.0), (300.0, 400.0)], [(20.0, 480.0)]
BOX = (182.0, 64.0, 270.0, 172.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam2")
    transformers_models.save_sam2(folder)
    return folder


@pytest.fixture(scope="module")
def module(saved: Path) -> Any:
    return import_module_of(FOLDER, "model_handler")


@pytest.fixture
def model(module: Any, saved: Path) -> Any:
    return module.ModelHandler(saved)


def photo() -> Any:
    return np.asarray(Image.open(io.BytesIO(PHOTO)).convert("RGB").crop((0, 0, 512, 384)))


def package_results(model: Any, module: Any, image: Any, multimask: bool, **prompt: Any) -> Any:
    """Return masks and scores of the whole model, for prompts scaled by the package's processor."""
    from transformers import Sam2Processor

    processor = Sam2Processor.__new__(Sam2Processor)
    processor.target_size, processor.point_pad_value = model.side, -10
    for name, is_box in (("input_points", False), ("input_boxes", True)):
        if name in prompt:
            values = torch.tensor(prompt[name])
            prompt[name] = processor._normalize_coordinates(
                model.side, values, image.shape[:2], is_bounding_box=is_box
            ).reshape(values.shape)
    pixels = module.prepare(image, model.side)[None]
    with torch.inference_mode():
        outputs = model.network(pixel_values=pixels, multimask_output=multimask, **prompt)
    scores, best = outputs.iou_scores[0].max(1)
    logits = outputs.pred_masks[0][torch.arange(len(best)), best]
    masks = torch.nn.functional.interpolate(
        logits[None], image.shape[:2], mode="bilinear", align_corners=False
    )
    return (masks[0] > 0).numpy(), scores.numpy()


@pytest.mark.parametrize(
    ("clicks", "beside", "boxes"),
    [
        (CLICKS[:1], [], []),
        (CLICKS, BESIDE, []),
        ([], [], [BOX]),
        (CLICKS[:1], BESIDE, [BOX]),
        ([], [], [BOX, (10.0, 20.0, 200.0, 300.0)]),
    ],
)
def test_results_equal_those_of_the_whole_model(
    model: Any, module: Any, clicks: Any, beside: Any, boxes: Any
) -> None:
    prompt: dict[str, Any] = {}
    if clicks:
        prompt["input_points"] = [[clicks + beside]]
        prompt["input_labels"] = torch.tensor([[[1] * len(clicks) + [0] * len(beside)]])
    if boxes:
        prompt["input_boxes"] = [boxes]
    is_one_click = len(clicks + beside) == 1 and not boxes
    expected = package_results(model, module, photo(), is_one_click, **prompt)
    masks, scores = model.predict(model.embed(photo()), clicks, beside, boxes)
    assert masks.shape == (max(1, len(boxes)), 384, 512)
    # Rounding may move a pixel of the outline.
    assert (masks != expected[0]).mean() < 1e-4
    assert scores == pytest.approx(expected[1], abs=1e-5)


def test_images_are_prepared_as_the_checkpoints_expect(module: Any) -> None:
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    colour = np.full((30, 50, 3), (10, 128, 255), np.uint8)
    pixels = module.prepare(colour, 1024)
    assert pixels.shape == (3, 1024, 1024)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (np.array([10, 128, 255]) / 255 - mean) / deviation
    assert pixels.mean((1, 2)).numpy() == pytest.approx(expected, abs=1e-5)
    # The package scales other models' images in the same way, with Pillow, which rounds otherwise.
    processor = RTDetrImageProcessorPil(size={"height": 256, "width": 256}, do_normalize=True)
    theirs = processor(photo(), return_tensors="pt", input_data_format="channels_last")
    difference = (module.prepare(photo(), 256) - theirs["pixel_values"][0]).abs()
    assert difference.max() < 1.01 / 255 / deviation.min()


def test_cvat_gets_shapes_with_a_confidence(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = transformers_models.ask(FOLDER, saved, PHOTO, monkeypatch, pos_points=CLICKS[:1])
    (shape,) = reply.shapes
    assert shape.type == "mask"
    assert shape.confidence is not None
    assert transformers_models.ask(FOLDER, saved, PHOTO, monkeypatch, boxes=[BOX]).shapes


def test_each_box_is_an_object(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_URI", str(saved))
    handler = Handler(FOLDER)
    body = {"image": base64.b64encode(PHOTO).decode(), "pos_points": [], "neg_points": []}
    corners = [[10, 20], [200, 300], [182, 64], [270, 172]]
    status, content = handler({**body, "obj_bbox": corners})
    assert (status, len(content["shapes"])) == (200, 2)
    status, content = handler({**body, "obj_bbox": corners, "pos_points": [[1, 1]]})
    assert (status, content["error"]) == (400, "send points with one box at most")
    status, content = handler({**body, "text_prompts": ["a cat"]})
    assert (status, content["error"]) == (400, "send a point on the object or a box around it")


def test_the_second_click_costs_the_decoder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers_models.save_sam2(tmp_path, side=512, channels=48)
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", str(tmp_path))
    first_worker, second_worker = Handler(FOLDER), Handler(FOLDER)
    user_data: Any = first_worker.context.user_data
    # The first run of a network takes longer.
    user_data.function.model.embed(photo())

    def seconds(worker: Handler, image: bytes, point: tuple[int, int]) -> float:
        body = json.loads(build_request("interactor", image, pos_points=[point]).body)
        start = time.process_time()
        status, _ = worker(body)
        assert status == 200
        return time.process_time() - start

    images = []
    for number in range(3):
        file = io.BytesIO()
        Image.fromarray(np.roll(photo(), 40 * number, 1)).save(file, "JPEG")
        images.append(file.getvalue())
    first = min(seconds(first_worker, image, (100, 100)) for image in images)
    # The other worker has never seen the images.
    second = min(seconds(second_worker, image, (200, 150)) for image in images)
    assert second < 0.15 * first


@pytest.mark.parametrize("size", [(1, 1), (37, 211), (1, 900)])
def test_images_of_every_size(
    saved: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new("L", size, 200).save(file, "PNG")
    transformers_models.ask(FOLDER, saved, file.getvalue(), monkeypatch, pos_points=[(0, 0)])
