"""A transformer of KFServing 0.3 and a SavedModel of MobileNet, as a pair of functions."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fnbuild.runtime.http.client import request
from tests import locks
from tests.environments import environment_python

pytestmark = [pytest.mark.system, pytest.mark.versions]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data/kfserving"
# The colours of the images of each class, by the class's number in ImageNet.
COLOURS = {"728": (220, 40, 40), "951": (240, 230, 60), "988": (120, 80, 30)}
INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"

FUNCTION = """
metadata:
  name: mobilenet-transformer
spec:
  runtime: python:3.11
  handler: image_transformer:__main__
  runtimeAttributes:
    arguments: [--predictor_host, "{host}"]
  triggers:
    http:
      kind: http
      attributes:
        protocols: [v1]
        model: mobilenet
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with TensorFlow 2.15, and with the class names of ImageNet."""
    return environment_python("3.11", "tensorflow-cpu==2.15.1", "pillow", data="timm==1.0.31")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Path:
    """A folder with Keras' file of class names, where Keras would download it to."""
    folder = tmp_path_factory.mktemp("home")
    info = next((python.parent.parent / "lib").glob("python3*/site-packages/timm/data/_info"))
    lines = (info / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    lemmas = dict(line.split("\t") for line in lines)
    synsets = (info / "imagenet_synsets.txt").read_text().split()
    names = [lemmas[synset].split(", ")[0].replace(" ", "_") for synset in synsets]
    index = {str(i): pair for i, pair in enumerate(zip(synsets, names, strict=True))}
    text = json.dumps(index)
    assert hashlib.md5(text.encode()).hexdigest() == INDEX_MD5
    (folder / ".keras/models").mkdir(parents=True)
    (folder / ".keras/models/imagenet_class_index.json").write_text(text)
    return folder


def _picture(colour: tuple[int, int, int], number: int) -> str:
    """Return a generated JPEG as base64: a rectangle of the colour before a grey background."""
    image = Image.new("RGB", (320, 240), (number * 9 % 256,) * 3)
    size = 60 + 12 * number
    image.paste(colour, (20 + 5 * number, 10, 20 + 5 * number + size, 10 + size))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def model(python: Path) -> Path:
    """A folder with saved_models/1, the pictures, and the logits of each.

    The model is trained once for all runs of the tests.
    """
    source = Path(__file__).read_bytes() + (DATA / "train.py").read_bytes()
    folder = ROOT / ".cache" / "mobilenet" / hashlib.sha256(source).hexdigest()[:16]
    with locks.exclusive("mobilenet"):
        # The logits are written last.
        if not (folder / "logits.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _train(python, folder)
    return folder


def _train(python: Path, folder: Path) -> None:
    classes = {name: [_picture(colour, i) for i in range(6)] for name, colour in COLOURS.items()}
    (folder / "classes.json").write_text(json.dumps(classes))
    done = subprocess.run(
        [python, DATA / "train.py", folder],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory,
    fnbuild: Callable[..., str],
    python: Path,
    home: Path,
    model: Path,
) -> dict[str, str]:
    """Return the addresses of the predictor and its transformer, both deployed."""
    options = ["--env", f"NUCLIO_PYTHON_EXE_PATH={python}", "--env", "CUDA_VISIBLE_DEVICES="]
    versions = tmp_path_factory.mktemp("versions")
    for older in ("2", "9"):
        (versions / older).mkdir()
    # The highest number, but not the last name in a sorted list; the others cannot be loaded.
    shutil.copytree(model / "saved_models/1", versions / "10")
    storage = ["--env", f"STORAGE_URI=file://{versions}"]
    fnbuild("deploy", "mobilenet", "--path", "functions/tensorflow/saved-model", *storage, *options)
    predictor = _address(fnbuild, "mobilenet")
    folder = tmp_path_factory.mktemp("transformer")
    shutil.copy(DATA / "image_transformer.py", folder)
    (folder / "function.yaml").write_text(FUNCTION.format(host=predictor))
    # Releases of Keras differ in which of these they read.
    options += ["--env", f"HOME={home}", "--env", f"KERAS_HOME={home}/.keras"]
    fnbuild("deploy", "--path", folder, *options)
    return {"predictor": predictor, "transformer": _address(fnbuild, "mobilenet-transformer")}


def _address(fnbuild: Callable[..., str], name: str) -> str:
    status = json.loads(fnbuild("get", "function", name, "-o", "json"))["status"]
    return f"127.0.0.1:{status['httpPort']}"


def _predict(host: str, body: Any) -> tuple[int, Any]:
    # The content type that curl sends with -d.
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Request-Id": "cat-1"}
    path = "/v1/models/mobilenet:predict"
    reply = request("POST", f"http://{host}", path, json.dumps(body).encode(), headers, 120.0)
    return reply.status, json.loads(reply.body)


def images_with_answers(model: Path, home: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield images as base64, with their labels and percentages by an independent softmax."""
    index = json.loads((home / ".keras/models/imagenet_class_index.json").read_text())
    pictures = json.loads((model / "classes.json").read_text())
    images = [(number, text) for number, texts in pictures.items() for text in texts]
    logits = json.loads((model / "logits.json").read_text())
    for (number, text), row in zip(images, logits, strict=True):
        weights = [math.exp(value - max(row)) for value in row]
        percent = str(round(weights[int(number)] / sum(weights) * 100, 2)) + "%"
        yield text, [index[number][1], percent]


def test_labels_and_percentages_are_those_of_the_newest_version(
    pair: dict[str, str], model: Path, home: Path
) -> None:
    for text, expected in list(images_with_answers(model, home))[::4]:
        answer = _predict(pair["transformer"], {"instances": [{"image": {"b64": text}}]})
        assert answer == (200, {"predictions": [expected]})


def test_the_predictor_answers_as_tensorflow_serving(pair: dict[str, str]) -> None:
    image = [[[0.5] * 3] * 224] * 224
    status, answer = _predict(pair["predictor"], {"instances": [image, image]})
    assert status == 200
    assert [len(row) for row in answer["predictions"]] == [1000, 1000]
    assert sum(answer["predictions"][0]) == pytest.approx(1.0, abs=1e-4)
    assert _predict(pair["predictor"], {"inputs": [image]})[1] == {
        "outputs": [pytest.approx(answer["predictions"][0])]
    }


@pytest.mark.parametrize("body", [{"instances": [[1, 2]]}, {"instances": ["a"]}, {}])
def test_requests_that_do_not_fit_the_model_are_refused(pair: dict[str, str], body: Any) -> None:
    status, answer = _predict(pair["predictor"], body)
    assert status == 400
    assert isinstance(answer["error"], str)


def test_the_status_of_the_predictor_is_passed_on(
    pair: dict[str, str], fnbuild: Callable[..., str], model: Path
) -> None:
    picture = json.loads((model / "classes.json").read_text())["728"][0]
    fnbuild("delete", "function", "mobilenet")
    status, answer = _predict(pair["transformer"], {"instances": [{"image": {"b64": picture}}]})
    assert status == 503
    assert f"the predictor http://{pair['predictor']} does not answer" in answer["error"]
