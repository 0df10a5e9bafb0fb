"""TorchServe's handlers of images, compared with replies of the real ones with torchvision."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from PIL import Image

from fnbuild.runtime.torchserve import vision_handlers
from fnbuild.runtime.torchserve.context import Context
from fnbuild.runtime.torchserve.image_transforms import image_tensor
from fnbuild.runtime.torchserve.metrics import Metrics
from tests.runtime.torchserve.unpacked import imported

DATA = Path(__file__).parents[2] / "data" / "torchserve-vision"
GOLDEN = json.loads((DATA / "golden.json").read_text())
NAMES = {
    "image_classifier": vision_handlers.ImageClassifier,
    "object_detector": vision_handlers.ObjectDetector,
    "image_segmenter": vision_handlers.ImageSegmenter,
}
CASES = [(name, image) for name in NAMES for image in GOLDEN[name]]
# Processors differ in the order in which they add numbers.
TOLERANCE = 1e-4


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")


def make_handler(name: str) -> Any:
    manifest = {"model": {"modelName": name, "serializedFile": f"{name}.pt"}}
    properties = {"model_dir": str(DATA), "gpu_id": None, "limit_max_image_pixels": True}
    context = Context(name, manifest, properties, {}, Metrics(name, print))
    context.begin(["id"], [{}])
    handler = NAMES[name]()
    handler.initialize(context)
    return lambda row: handler.handle([row], context)[0], handler


def assert_close(actual: Any, expected: Any) -> None:
    """Compare nested lists and objects of numbers."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        actual, expected = list(actual.values()), list(expected.values())
    if not isinstance(expected, list):
        assert actual == pytest.approx(expected, abs=TOLERANCE)
        return
    assert len(actual) == len(expected)
    for item, wanted in zip(actual, expected, strict=True):
        assert_close(item, wanted)


def test_the_tests_run_without_torchvision_and_captum() -> None:
    assert importlib.util.find_spec("torchvision") is None
    assert importlib.util.find_spec("captum") is None


@pytest.mark.parametrize(("name", "image"), CASES)
def test_replies_are_those_of_torchserve_with_torchvision(name: str, image: str) -> None:
    handle, handler = make_handler(name)
    golden = GOLDEN[name][image]
    data = bytearray((DATA / image).read_bytes())
    tensor = handler.preprocess([{"data": data}])[0]
    assert list(tensor.shape) == golden["shape"]
    assert tensor.double().sum(dim=(1, 2)).tolist() == pytest.approx(golden["sums"], rel=1e-5)
    pixels = tensor[:, ::32, ::32].flatten().tolist()
    assert pixels == pytest.approx(golden["pixels"], abs=1e-6)
    reply = handle({"body": data})
    if name == "image_segmenter":
        assert (len(reply), len(reply[0])) == (224, 224)
        reply = [row[::32] for row in reply[::32]]
    assert_close(reply, golden["reply"])


def test_images_may_be_base64_or_lists_of_numbers() -> None:
    handle, handler = make_handler("image_classifier")
    data = (DATA / "small.png").read_bytes()
    reply = handle({"body": data})
    assert handle({"data": base64.b64encode(data).decode()}) == reply
    numbers = handler.preprocess([{"body": data}])[0].tolist()
    assert_close(handle({"body": numbers}), reply)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBA", 4)])
def test_an_image_without_three_channels_is_refused_with_its_mode(mode: str, channels: int) -> None:
    handle, _ = make_handler("image_classifier")
    file = io.BytesIO()
    Image.new(mode, (300, 300)).save(file, "PNG")
    with pytest.raises(ValueError, match=f"the image has {channels} channels"):
        handle({"body": file.getvalue()})


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [("1", 1, 1.0), ("L", 51, 0.2), ("I", 70000, 70000.0), ("I;16", 300, 300.0), ("F", 0.5, 0.5)],
)
def test_pixels_of_every_mode_become_numbers(mode: str, color: Any, expected: float) -> None:
    image = Image.new(mode, (3, 2), color)
    tensor = image_tensor(image)
    assert tensor.shape == (1, 2, 3)
    assert tensor.to(torch.float64).flatten().tolist() == pytest.approx([expected] * 6)


def test_limits_of_the_results_can_be_changed() -> None:
    handle, handler = make_handler("image_classifier")
    handler.set_max_result_classes(2)
    assert handler.get_max_result_classes() == len(
        handle({"body": (DATA / "small.png").read_bytes()})
    )
    handle, handler = make_handler("object_detector")
    handler.threshold = 2
    assert handle({"body": (DATA / "small.png").read_bytes()}) == []


def test_an_explanation_needs_captum() -> None:
    _, handler = make_handler("image_classifier")
    with pytest.raises(ModuleNotFoundError, match="captum"):
        handler.get_insights(torch.zeros(1, 3, 224, 224), None)


@pytest.mark.system
def test_an_archive_with_a_default_handler_is_served_without_torchserve(tmp_path: Path) -> None:
    model = {
        "modelName": "classes",
        "modelVersion": "1.0",
        "handler": "image_classifier",
        "serializedFile": "image_classifier.pt",
    }
    archive = tmp_path / "classes.mar"
    with zipfile.ZipFile(archive, "w") as members:
        for name in ("image_classifier.pt", "index_to_name.json"):
            members.write(DATA / name, name)
        members.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
    with imported(archive, tmp_path) as running:
        data = (DATA / "portrait.jpg").read_bytes()
        for request in ({"data": data}, {"files": {"data": data}}):
            reply = requests.post(f"{running.url}/predictions/classes", timeout=60, **request)
            assert reply.status_code == 200, running.log_path.read_text()
            assert_close(reply.json(), GOLDEN["image_classifier"]["portrait.jpg"]["reply"])
