"""The mobilenet function with weights that were trained on generated images."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import build_request
from fnbuild.function import labels
from fnbuild.function.reader import load_function
from tests import storage_servers
from tests.functions.conftest import ROOT, import_module_of

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/torch/mobilenet"
COLOURS = {"plastic_bag": (220, 40, 40), "lemon": (240, 230, 60), "acorn": (120, 80, 30)}
# The number of parameters of the published network with 1000 classes.
PARAMETERS = 3_504_872
# The interpreter of the tests has the packages of the function.
PYTHON = ("--env", f"NUCLIO_PYTHON_EXE_PATH={sys.executable}")

Fnbuild = Callable[..., str]


class Trained(NamedTuple):
    """A folder with weights and labels, and the logits of pictures by their label."""

    folder: Path
    weights: Path
    pictures: list[tuple[str, bytes, list[float]]]


def picture(colour: tuple[int, int, int], number: int) -> bytes:
    """Return a JPEG: a rectangle of the colour before a grey background."""
    image = Image.new("RGB", (320, 240), (number * 30 % 256,) * 3)
    size = 90 + 20 * number
    image.paste(colour, (70 + 5 * number, 30, 70 + 5 * number + size, 30 + size))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train the last layer on the features of random convolutions."""
    folder = tmp_path_factory.mktemp("bags")
    module = import_module_of(FOLDER, "model_handler")
    torch.manual_seed(7)
    network = module.MobileNet(len(COLOURS))
    files = [(label, picture(colour, i)) for label, colour in COLOURS.items() for i in range(5)]
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for _, data in files]
    pixels = torch.stack([module.prepare(image) for image in images])
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    classes = torch.tensor([list(COLOURS).index(label) for label, _ in files])
    with torch.no_grad():
        network.train()
        network.features(pixels)
        features = network.eval().features(pixels).mean((2, 3))
    optimizer = torch.optim.Adam(network.classifier[1].parameters(), 0.01)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(network.classifier[1](features), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = folder / "bags.pt"
    torch.save(network.state_dict(), weights)
    (folder / "labels.txt").write_text("\n".join(COLOURS) + "\n")
    with torch.no_grad():
        logits = network(pixels).tolist()
    rows = [(label, data, row) for (label, data), row in zip(files, logits, strict=True)]
    return Trained(folder, weights, rows)


@pytest.fixture(scope="module")
def url(fnbuild: Fnbuild, trained: Trained) -> str:
    fnbuild("deploy", "--path", FOLDER, *PYTHON, "--env", f"STORAGE_URI=file://{trained.folder}")
    return address(fnbuild)


def address(fnbuild: Fnbuild) -> str:
    described = json.loads(fnbuild("get", "function", "mobilenet", "-o", "json"))
    return f"http://127.0.0.1:{described['status']['httpPort']}"


def ask(url: str, path: str, body: Any) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def softmax(logits: list[float]) -> list[float]:
    weights = np.exp(np.float64(logits) - max(logits))
    return [float(value) for value in weights / weights.sum()]


def test_v1_has_the_label_and_the_percentage_of_the_article(url: str, trained: Trained) -> None:
    chosen = trained.pictures[::4]
    instances = [{"image": {"b64": encoded(data)}} for _, data, _ in chosen]
    status, answer = ask(url, "/v1/models/mobilenet:predict", {"instances": instances})
    assert status == 200
    assert [label for label, _ in answer["predictions"]] == [label for label, _, _ in chosen]
    for (_, percentage), (_, _, logits) in zip(answer["predictions"], chosen, strict=True):
        assert percentage.endswith("%")
        number = percentage[:-1]
        assert number == str(round(float(number), 2))
        assert float(number) == pytest.approx(100 * max(softmax(logits)), abs=0.02)


def test_cvat_gets_tags(url: str, trained: Trained) -> None:
    function = load_function(FOLDER).function
    for label, data, _ in trained.pictures[::5]:
        sent = build_request("detector", data)
        status, content = ask(url, "/", sent.body)
        assert status == 200
        defined = labels.function_labels(function)
        reading = read_reply("detector", content, defined, sent.image.size, sent)
        assert [str(finding) for finding in reading.diagnostics] == []
        assert [shape.label for shape in reading.shapes] == [label]
    _, all_labels = ask(url, "/", {"image": encoded(data), "threshold": 0})
    assert sorted(tag["label"] for tag in all_labels) == sorted(COLOURS)
    assert ask(url, "/", {"image": encoded(data), "threshold": "high"})[0] == 400


def test_v2_has_the_most_probable_classes_as_tensors(url: str, trained: Trained) -> None:
    data = [encoded(data) for _, data, _ in trained.pictures[::5]]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}
    status, answer = ask(url, "/v2/models/mobilenet/infer", {"inputs": [tensor]})
    assert status == 200
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["labels"]["shape"] == outputs["scores"]["shape"] == [3, 3]
    assert outputs["labels"]["data"][::3] == list(COLOURS)
    for index, (_, _, logits) in enumerate(trained.pictures[::5]):
        scores = outputs["scores"]["data"][3 * index : 3 * index + 3]
        assert scores == pytest.approx(sorted(softmax(logits), reverse=True), abs=2e-4)


def test_the_weights_are_downloaded_and_their_hash_is_checked(
    fnbuild: Fnbuild, trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "mobilenet"
    folder.mkdir()
    for path in [*FOLDER.glob("*.py"), FOLDER / "function.yaml", trained.folder / "labels.txt"]:
        (folder / path.name).write_bytes(path.read_bytes())
    weights = trained.weights.read_bytes()
    with storage_servers.file_server() as server:
        server.files["/bags.pt"] = weights
        uri = f"STORAGE_URI={server.url}/bags.pt"
        deploy = ("deploy", "--path", folder, *PYTHON, "--env", uri, "--env")
        with pytest.raises(AssertionError, match="its sha256 is"):
            fnbuild(*deploy, "STORAGE_SHA256=" + "0" * 64)
        fnbuild(*deploy, "STORAGE_SHA256=" + hashlib.sha256(weights).hexdigest())
    label, data, _ = trained.pictures[0]
    _, [tag] = ask(address(fnbuild), "/", {"image": encoded(data)})
    assert tag["label"] == label


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (31, 33), (3000, 2000)])
def test_images_of_every_size(
    handler: Any, mobilenet_weights: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("STORAGE_URI", str(mobilenet_weights))
    file = io.BytesIO()
    Image.new("RGB", size, (10, 200, 90)).save(file, "PNG")
    status, content = handler(FOLDER)({"image": encoded(file.getvalue()), "threshold": 0})
    assert (status, len(content)) == (200, 3)


def test_the_network_has_the_parameters_of_the_published_one() -> None:
    network = import_module_of(FOLDER, "network").MobileNet(1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS
    names = set(network.state_dict())
    for name in ("0.0.weight", "1.conv.1.weight", "2.conv.0.0.weight", "2.conv.3.bias"):
        assert f"features.{name}" in names
    assert {"features.18.1.running_mean", "classifier.1.bias"} <= names


def test_files_that_are_not_the_weights_are_refused(
    mobilenet_weights: Path, tmp_path: Path
) -> None:
    module = import_module_of(FOLDER, "model_handler")

    def error() -> str:
        with pytest.raises(module.ModelError) as raised:
            module.ModelHandler(str(tmp_path))
        return str(raised.value)

    assert "has no weights instead of one file *.pt or *.pth" in error()
    weights = tmp_path / "model.pt"
    for content in (b"", b"nonsense"):
        weights.write_bytes(content)
        assert "model.pt does not have the weights of a MobileNetV2" in error()
    for value in ({}, {"classifier.1.bias": torch.zeros(3)}, [1], Path("a pickled object")):
        torch.save(value, weights)
        assert "model.pt does not have the weights of a MobileNetV2" in error()
    weights.write_bytes((mobilenet_weights / "random.pt").read_bytes())
    assert "labels.txt: it has 3 lines" in error()
    (tmp_path / "labels.txt").write_text("lemon\n")
    assert "labels.txt has 1 labels, and the weights 3 classes" in error()
