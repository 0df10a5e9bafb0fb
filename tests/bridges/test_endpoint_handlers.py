"""Functions from endpoint handlers of Hugging Face."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from fnbuild.bridges.endpoint_handlers import EndpointFolder, function_files, is_endpoint_folder
from fnbuild.cli.app import run
from fnbuild.cvat.replies import read_reply
from fnbuild.errors import InputError
from fnbuild.function.labels import function_labels
from fnbuild.function.reader import check_function
from fnbuild.vision.endpoint_functions import to_shapes
from tests.bridges.test_sdk_functions import call, picture

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = ROOT / "tests/data/endpoint"


def test_results_of_image_pipelines_become_shapes(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    assert run(["init", str(folder), "--from-endpoint", str(ENDPOINT)]) == 0
    loaded, report = check_function(folder, strict=True, code=True)
    assert loaded is not None, report.render()
    assert not list(report), report.render()
    labels = function_labels(loaded.function)
    assert [(label.name, label.type) for label in labels] == [
        ("cat", "rectangle"),
        ("dog", "rectangle"),
    ]
    requests: list[Any] = [
        {"image": picture()},
        {"image": picture(), "threshold": 0.3},
        {"image": picture()},
        {"image": picture(), "threshold": 0.4},
        {"image": picture()},
        {"inputs": "a text", "parameters": {"top_k": 1}},
        {"image": "nonsense"},
        {"image": picture(), "threshold": 2},
    ]
    replies = call(Path(sys.executable), folder, requests)
    assert [status for status, _ in replies] == [200] * 6 + [400] * 2
    boxes, tags, masks, other, nothing, passed = [content for _, content in replies[:6]]
    assert boxes == [
        {"label": "cat", "type": "rectangle", "points": [1, 2, 40, 30], "confidence": "0.7500"}
    ]
    assert [(shape["label"], shape["type"], shape["confidence"]) for shape in tags] == [
        ("cat", "tag", "0.5000")
    ]
    assert [shape["mask"] for shape in masks] == [[1] * 6 + [3, 2, 5, 3]] * 2
    assert Image.open(io.BytesIO(base64.b64decode(other["depth"]))).size == (40, 30)
    assert (other["threshold"], nothing) == (0.4, [])
    assert passed == {"inputs": "a text", "parameters": {"top_k": 1}, "array": [0, 1, 2]}
    for reply in (boxes, masks):
        assert not read_reply("detector", json.dumps(reply), labels, (40, 30)).violations


def test_the_whole_folder_is_copied_without_hidden_files(tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(ENDPOINT, source)
    (source / ".git").mkdir()
    (source / ".git" / "config").touch()
    (source / "weights").mkdir()
    (source / "weights" / "model.bin").write_bytes(b"\0\xff")
    (source / "requirements.txt").write_text("timm\n")
    folder = tmp_path / "f"
    words = ["init", str(folder), "--from-endpoint", str(source), "--requirement", "scipy"]
    assert run([*words, "--task", "segmentation", "--labels", "voc-20"]) == 0
    assert (folder / "endpoint/weights/model.bin").read_bytes() == b"\0\xff"
    assert not (folder / "endpoint/.git").exists()
    assert (folder / "requirements.txt").read_text() == "timm\nscipy\n"
    loaded, _ = check_function(folder)
    assert loaded is not None
    labels = function_labels(loaded.function)
    assert (len(labels), {label.type for label in labels}) == (20, {"mask"})


def test_a_handler_without_labels_is_a_plain_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    shutil.copy(ENDPOINT / "handler.py", source)
    assert run(["init", str(tmp_path / "f"), "--from-endpoint", str(source)]) == 0
    assert "--project-name" not in capsys.readouterr().err
    loaded, report = check_function(tmp_path / "f", strict=True)
    assert loaded is not None, report.render()
    assert loaded.function.metadata.annotations == {}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no handler.py with the class EndpointHandler"),
        ({"handler.py": "class Other: pass"}, "has no handler.py with the class"),
        ({"handler.py": "def f(:\n"}, "handler.py:1: "),
        ({"handler.py": "class EndpointHandler: pass", "config.json": "{\n"}, "config.json:2: "),
    ],
)
def test_a_folder_without_a_handler_is_one_error(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        function_files(EndpointFolder(tmp_path), "f")


def test_from_recognizes_the_folder_of_a_handler(tmp_path: Path) -> None:
    words = ["init", str(tmp_path / "f"), "--from", str(ENDPOINT), "--task", "segment"]
    assert run(words) == 0
    assert (tmp_path / "f" / "endpoint" / "handler.py").is_file()
    loaded, _ = check_function(tmp_path / "f")
    assert loaded is not None
    assert {label.type for label in function_labels(loaded.function)} == {"mask"}


def test_soft_masks_begin_in_the_middle() -> None:
    soft = numpy.array([[0.0, 0.2], [0.6, 1.0]])
    (shape,) = to_shapes([{"label": "cat", "score": None, "mask": soft}], 0) or []
    assert shape["mask"] == [1, 1, 0, 1, 1, 1]


def test_a_handler_may_import_its_class(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("from model import Pets as EndpointHandler")
    assert is_endpoint_folder(tmp_path)


def test_labels_may_be_names(tmp_path: Path) -> None:
    words = ["init", str(tmp_path / "f"), "--from", str(ENDPOINT), "--task", "classify"]
    assert run([*words, "--labels", "cat, other dog"]) == 0
    loaded, _ = check_function(tmp_path / "f")
    assert loaded is not None
    labels = function_labels(loaded.function)
    assert [(label.name, label.type) for label in labels] == [("cat", "tag"), ("other dog", "tag")]


def test_a_config_without_a_list_of_architectures_names_no_task(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("class EndpointHandler: pass")
    (tmp_path / "config.json").write_text('{"architectures": 3, "id2label": {"0": "cat"}}')
    text = function_files(EndpointFolder(tmp_path), "f")["function.yaml"]
    assert "annotations" not in str(text)


def test_options_of_other_sources_are_refused(tmp_path: Path) -> None:
    assert is_endpoint_folder(ENDPOINT)
    words = ["init", str(tmp_path / "f"), "--from-endpoint", str(ENDPOINT)]
    assert run([*words, "--kind", "detector"]) == 2
    assert run([*words, "--task", "keypoints"]) == 2
    assert run([*words, "--python", "python3"]) == 2
    assert run(["init", str(tmp_path / "f"), "--labels", "voc-20"]) == 2
    assert not (tmp_path / "f").exists()
