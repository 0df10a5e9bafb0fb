"""The embedding-faiss function on digits that were not in its training, and as a service."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.http.client import request
from tests.functions.conftest import ROOT, Handler, import_module_of

pytestmark = pytest.mark.system

FOLDER = ROOT / "functions/torch/embedding-faiss"
FILES = ("model.pt", "faiss_index.bin", "faiss_label.json")


@pytest.fixture(scope="module")
def training() -> Any:
    return import_module_of(FOLDER, "train")


@pytest.fixture
def recognizer(handler: Callable[[Path], Handler]) -> Handler:
    return handler(FOLDER)


def png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def as_json(data: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(data).decode()}


def copied(folder: Path) -> Path:
    """Return a copy of the function's folder, without the caches of Python."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_unseen_digits_are_recognized(recognizer: Handler, training: Any) -> None:
    digits, labels = training.unseen()
    correct = 0
    for digit, label in zip(digits, labels, strict=True):
        status, reply = recognizer(as_json(png(training.picture(digit))))
        assert status == 200
        assert reply["dists"] == sorted(reply["dists"])
        assert len(reply["dists"]) == 5
        correct += reply["pred"] == label
    assert correct / len(labels) > 0.98, f"{correct} of {len(labels)} digits"


def test_a_digit_of_the_index_is_at_distance_zero(recognizer: Handler, training: Any) -> None:
    digits, labels = training.seen()
    for number in (0, 700, 1436):
        _, reply = recognizer(as_json(png(training.picture(digits[number]))))
        assert reply["dists"][0] == pytest.approx(0, abs=1e-3)
        assert reply["pred"] == labels[number]


def test_the_size_of_the_image_does_not_matter(recognizer: Handler, training: Any) -> None:
    digit = training.picture(training.unseen()[0][7])
    replies = [recognizer(as_json(png(digit.resize((side, side)))))[1] for side in (128, 256, 640)]
    assert len({reply["pred"] for reply in replies}) == 1


def test_an_invalid_request_is_reported_to_the_caller(recognizer: Handler) -> None:
    for body, message in (
        (b"raw", "neither a JSON object nor"),
        ({}, '"image" is missing'),
        ({"image": "aGVsbG8="}, "not a JPEG, PNG"),
    ):
        status, content = recognizer(body)
        assert status == 400
        assert message in content["error"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_of_the_model_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    folder = copied(tmp_path / "model")
    monkeypatch.setenv("STORAGE_URI", str(folder))
    for damage in (lambda: (folder / name).write_bytes(b"nonsense"), (folder / name).unlink):
        damage()
        with pytest.raises(SystemExit, match=f"{name} cannot be read.*train.py writes {name}"):
            Handler(FOLDER)


def test_files_that_do_not_belong_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = copied(tmp_path / "model")
    monkeypatch.setenv("STORAGE_URI", str(folder))
    (folder / "faiss_label.json").write_text("[1, 2]")
    with pytest.raises(SystemExit, match=r"1437 vectors of length 16, and .* 2 labels"):
        Handler(FOLDER)


def test_the_training_runs_and_repeats_itself(tmp_path: Path) -> None:
    folder = copied(tmp_path / "function")
    for name in FILES:
        (folder / name).unlink()
    for output in ("one", "two"):
        command = [sys.executable, "train.py", "--epochs", "1", "--output", output]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "epoch 1 of 1, loss " in done.stdout
    for name in (*FILES, "digit.png"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    assert (folder / "one/digit.png").read_bytes() == (FOLDER / "digit.png").read_bytes()


def test_the_running_service_answers_a_file_and_an_instance_of_v1(
    fnbuild: Callable[..., str], training: Any
) -> None:
    fnbuild("deploy", "--path", FOLDER, "--env", f"NUCLIO_PYTHON_EXE_PATH={sys.executable}")
    described = json.loads(fnbuild("get", "function", "embedding-faiss", "-o", "json"))
    url = f"http://127.0.0.1:{described['status']['httpPort']}"
    data = (FOLDER / "digit.png").read_bytes()
    answer = request("POST", url, "/", data, {"Content-Type": "image/png"}, 30.0)
    reply = json.loads(answer.body)
    assert reply["pred"] == 3
    assert len(reply["dists"]) == 5
    body = {"instances": [{"image": {"b64": base64.b64encode(data).decode()}}]}
    json_type = {"Content-Type": "application/json"}
    path = "/v1/models/embedding-faiss:predict"
    v1 = request("POST", url, path, json.dumps(body).encode(), json_type, 30.0)
    assert json.loads(v1.body) == {"predictions": [reply]}
