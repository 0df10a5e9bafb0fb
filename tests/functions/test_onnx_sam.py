"""The sam function with an export of a small model with random weights."""

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

from fnbuild.cvat.request import build_request
from tests.functions import transformers_models
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.transformers_models import PHOTO

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/onnx/sam"
CLICKS, BESIDE = [(250.0, 110.0), (300.0, 300.0)], [(20.0, 380.0)]
BOX = (182.0, 64.0, 270.0, 172.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with an export, and the model."""
    folder = tmp_path_factory.mktemp("sam")
    model = transformers_models.sam()
    transformers_models.export_sam(model, folder)
    return folder, model


@pytest.fixture
def module(saved: Any) -> Any:
    return import_module_of(FOLDER, "model_handler")


def photo() -> Any:
    return np.asarray(Image.open(io.BytesIO(PHOTO)).convert("RGB").crop((0, 0, 512, 384)))


def package_results(model: Any, clicks: Any, beside: Any, boxes: Any) -> Any:
    """Return masks and scores of the package's own processor and model."""
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    size = {"longest_edge": 256}
    processor = SamImageProcessorPil(size=size, pad_size={"height": 256, "width": 256})
    inputs = processor(photo(), return_tensors="pt", input_data_format="channels_last")
    prompt = {}
    if clicks:
        prompt["input_points"] = torch.tensor([[clicks + beside]]) / 2
        prompt["input_labels"] = torch.tensor([[[1] * len(clicks) + [0] * len(beside)]])
    if boxes:
        prompt["input_boxes"] = torch.tensor([boxes]) / 2
    with torch.inference_mode():
        outputs = model(pixel_values=inputs["pixel_values"], **prompt)
    (masks,) = processor.post_process_masks(
        outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    best = int(outputs.iou_scores[0, 0].argmax())
    return masks[0, best].numpy(), float(outputs.iou_scores[0, 0, best])


@pytest.mark.parametrize(
    ("clicks", "beside", "boxes"),
    [(CLICKS[:1], [], []), (CLICKS, BESIDE, []), ([], [], [BOX])],
    ids=["click", "clicks", "box"],
)
def test_results_equal_those_of_the_package(
    saved: Any, module: Any, clicks: Any, beside: Any, boxes: Any
) -> None:
    model = module.ModelHandler(saved[0])
    expected, expected_score = package_results(saved[1], clicks, beside, boxes)
    box = boxes[0] if boxes else None
    mask, score = model.predict(model.embed(photo()), clicks, beside, box)
    assert mask.shape == (384, 512)
    assert (mask != expected).mean() < 1e-3
    assert score == pytest.approx(min(1, max(0, expected_score)), abs=1e-3)


def test_cvat_gets_shapes_with_a_confidence(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for prompt in ({"pos_points": CLICKS[:1]}, {"boxes": [BOX]}):
        reply = transformers_models.ask(FOLDER, saved[0], PHOTO, monkeypatch, **prompt)
        assert [shape.type for shape in reply.shapes] == ["mask"]
        assert reply.shapes[0].confidence is not None


def test_the_function_that_cvat_decodes_in_the_browser_answers_the_embedding(
    saved: Any, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_URI", str(saved[0]))
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", "pth-facebookresearch-sam-vit-h")
    file = io.BytesIO()
    Image.fromarray(photo()).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    body = {"image": image, "pos_points": [], "neg_points": [], "obj_bbox": []}
    status, content = Handler(FOLDER)(body)
    assert (status, list(content)) == (200, ["blob"])
    values = np.frombuffer(base64.b64decode(content["blob"]), np.float32)
    expected = module.ModelHandler(saved[0]).embed(photo())["embedding"]
    assert np.array_equal(values, expected.ravel())


def test_folders_without_an_encoder_or_decoder_are_refused(
    saved: Any, module: Any, tmp_path: Path
) -> None:
    def error() -> str:
        with pytest.raises(SystemExit) as raised:
            module.ModelHandler(tmp_path)
        return str(raised.value)

    assert "has no *.onnx instead of one file *encoder*.onnx" in error()
    (tmp_path / "encoder.onnx").write_bytes(b"no model")
    assert "encoder.onnx is not a model for ONNX Runtime" in error()
    encoder = (saved[0] / "encoder.onnx").read_bytes()
    (tmp_path / "encoder.onnx").write_bytes(encoder)
    (tmp_path / "decoder.onnx").write_bytes(encoder)
    assert "the decoder has no input image_embeddings, point_coords, point_labels" in error()


def test_a_decoder_that_needs_more_is_refused(
    saved: Any, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPTIONAL_INPUTS", {"orig_im_size"})
    with pytest.raises(SystemExit, match="the decoder needs has_mask_input, mask_input, too"):
        module.ModelHandler(saved[0])


@pytest.mark.parametrize("size", [(384, 512), (512, 384), (40, 30)])
def test_masks_of_the_padded_square_are_scaled_to_the_image(
    module: Any, size: tuple[int, int]
) -> None:
    scaled = module.scaled_size(*size, 256)
    # Positive left of the middle of the image.
    columns = scaled[1] / 8 - 0.5 - np.arange(64)
    mask = module.restore(np.tile(columns, (64, 1)).astype(np.float32), 256, scaled, size)
    assert mask.shape == size
    assert (mask > 0).sum(1) == pytest.approx(np.full(size[0], size[1] / 2), abs=1)


@pytest.mark.parametrize("size", [(1, 1), (37, 211), (1, 900)])
def test_images_of_every_size(
    saved: Any, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new("L", size, 200).save(file, "PNG")
    body = json.loads(build_request("interactor", file.getvalue(), pos_points=[(0, 0)]).body)
    monkeypatch.setenv("STORAGE_URI", str(saved[0]))
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", str(saved[0]))
    assert Handler(FOLDER)(body)[0] == 200
