"""The detector function with models of several architectures and random weights."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fnbuild.runtime.storage.digests import file_sha256, model_sha256
from fnbuild.runtime.storage.fetch import fetch_model, model_request
from tests import storage_servers
from tests.functions import transformers_models
from tests.functions.conftest import ROOT, Handler, import_module_of
from tests.functions.transformers_models import PHOTO

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/transformers/detector"
KINDS = ("detr", "rt_detr", "d_fine")


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a model, and the model."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, transformers_models.save_detector(request.param, folder)


@pytest.fixture
def detect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def answer(storage: Path, image: bytes = PHOTO, **options: Any) -> Any:
        return transformers_models.ask(FOLDER, storage, image, monkeypatch, **options).shapes

    return answer


def set_answer(model: Any, label: int, box: tuple[float, ...]) -> None:
    """Let all queries of a DETR answer with this class and box (centre and size from 0 to 1)."""
    with torch.no_grad():
        model.class_labels_classifier.weight.zero_()
        model.class_labels_classifier.bias.fill_(-5)
        model.class_labels_classifier.bias[label] = 5
        model.bbox_predictor.layers[-1].weight.zero_()
        model.bbox_predictor.layers[-1].bias.copy_(torch.logit(torch.tensor(box)))


def test_a_known_answer_has_the_label_and_the_box(
    detect: Callable[..., Any], tmp_path: Path
) -> None:
    model = transformers_models.save_detector("detr", tmp_path)
    set_answer(model, 2, (0.5, 0.25, 0.5, 0.5))
    model.save_pretrained(tmp_path)
    width, height = Image.open(io.BytesIO(PHOTO)).size
    shapes = detect(tmp_path)
    assert {shape.label for shape in shapes} == {"traffic light"}
    for shape in shapes:
        expected = (width / 4, 0, 3 * width / 4, height / 2)
        assert shape.points == pytest.approx(expected, abs=0.02)
    assert detect(tmp_path, threshold=0.9999) == ()


def test_results_equal_those_of_the_package(saved: Any) -> None:
    from transformers import AutoImageProcessor

    folder, model = saved
    image = Image.open(io.BytesIO(PHOTO)).convert("RGB")
    processor = AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        outputs = model(**processor(images=image, return_tensors="pt"))
    sizes = [image.size[::-1]]
    (expected,) = processor.post_process_object_detection(outputs, 0.2, target_sizes=sizes)
    module = import_module_of(FOLDER, "model_handler")
    boxes, names, scores = module.ModelHandler(folder).infer(np.asarray(image), 0.2)
    assert len(boxes) > 0
    assert np.array_equal(boxes, expected["boxes"].numpy())
    assert np.array_equal(scores, expected["scores"].numpy())
    numbers = expected["labels"].tolist()
    assert names == [transformers_models.NAMES[number] for number in numbers]


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (211, 37), (1, 900), (900, 2)])
def test_images_of_every_size(
    detect: Callable[..., Any], saved: Any, size: tuple[int, int]
) -> None:
    file = io.BytesIO()
    Image.new("L", size, 200).save(file, "PNG")
    assert isinstance(detect(saved[0], file.getvalue(), threshold=0.01), tuple)


def test_models_that_cannot_be_served_are_refused(tmp_path: Path) -> None:
    transformers_models.add_packages()
    module = import_module_of(FOLDER, "model_handler")
    folder = tmp_path / "model"

    def error() -> str:
        with pytest.raises(SystemExit) as raised:
            module.ModelHandler(tmp_path)
        return str(raised.value)

    assert "no folders with a config.json" in error()
    model = transformers_models.save_detector("detr", folder)
    weights = {name: value for name, value in model.state_dict().items() if "bbox" not in name}
    model.save_pretrained(folder, state_dict=weights)
    assert "lack 6 tensors, as bbox_predictor.layers.0.bias" in error()
    (folder / "model.safetensors").write_bytes(b"not weights")
    assert f"{folder} has no model for object detection" in error()
    (folder / "model.safetensors").unlink()
    # A pickle could run code when it is loaded.
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert f"{folder} has no model for object detection" in error()


def test_a_model_with_a_backbone_of_timm_is_one_clear_error(tmp_path: Path) -> None:
    transformers_models.add_packages()
    transformers_models.save_detector("detr", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone_config"] = {"model_type": "timm_backbone", "backbone": "resnet50"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit, match=r"object detection: TimmBackbone requires the timm"):
        import_module_of(FOLDER, "model_handler").ModelHandler(tmp_path)


def test_a_label_spec_without_labels_of_the_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformers_models.save_detector("detr", tmp_path)
    model.config.id2label = {0: "crack", 1: "dent", 2: "scratch"}
    model.save_pretrained(tmp_path)
    monkeypatch.setenv("STORAGE_URI", str(tmp_path))
    with pytest.raises(SystemExit, match=r"config\.json: crack, dent, scratch"):
        Handler(FOLDER)


def test_the_files_of_a_model_of_hugging_face_are_enough(
    detect: Callable[..., Any], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    model = transformers_models.save_detector("detr", source)
    set_answer(model, 0, (0.5, 0.5, 0.2, 0.2))
    model.save_pretrained(source)
    paths = sorted(source.iterdir())
    tree = [{"type": "file", "path": path.name, "size": path.stat().st_size} for path in paths]
    with storage_servers.file_server() as server:
        api = "/api/models/owner/detr"
        server.documents = {
            f"{api}/revision/main": (200, {}, b'{"sha": "c0ffee"}'),
            f"{api}/tree/c0ffee?recursive=true": (200, {}, json.dumps(tree).encode()),
        }
        server.files = {f"/owner/detr/resolve/c0ffee/{p.name}": p.read_bytes() for p in paths}
        hashes = {path.name: file_sha256(str(path)) for path in paths}
        variables = {
            "STORAGE_URI": "hf://owner/detr",
            "STORAGE_SHA256": model_sha256(hashes),
            "HF_ENDPOINT": server.url,
        }
        fetched = fetch_model(model_request(variables, str(tmp_path / "models")), print)
    assert {shape.label for shape in detect(Path(fetched.path))} == {"car"}
