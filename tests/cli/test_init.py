"""New functions from templates."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.cli.init import templates

Fnbuild = Callable[..., Any]


def test_each_kind_of_cvat_has_a_template() -> None:
    assert {"detector", "interactor", "tracker", "reid"} <= set(templates())


@pytest.mark.parametrize("kind", sorted(templates()))
def test_init_writes_a_valid_function(kind: str, tmp_path: Path, fnbuild: Fnbuild) -> None:
    folder = tmp_path / "my-function"
    outcome = fnbuild("init", folder, "--kind", kind)
    assert outcome.status == 0, outcome.err
    assert outcome.out == ""
    assert f"wrote {folder}/function.yaml" in outcome.err
    texts = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert "name: my-function\n" in texts["function.yaml"]
    project = "" if kind == "http" else " --project-name cvat"
    assert outcome.err.endswith(f"then: fnbuild deploy --path {folder}{project}\n")
    assert "_NAME" not in "".join(texts.values())
    ast.parse(texts["main.py"])
    checked = fnbuild("validate", folder, "--strict")
    assert checked.status == 0, checked.out + checked.err
    assert checked.err.endswith("1 function: 0 errors, 0 warnings\n"), checked.out


def test_the_name_may_differ_from_the_folder(tmp_path: Path, fnbuild: Fnbuild) -> None:
    assert fnbuild("init", tmp_path, "--name", "another").status == 0
    assert "name: another\n" in (tmp_path / "function.yaml").read_text()


def test_nothing_is_overwritten(tmp_path: Path, fnbuild: Fnbuild) -> None:
    (tmp_path / "main.py").write_text("mine")
    refused = fnbuild("init", tmp_path, "--name", "f")
    assert refused.status == 1
    assert "main.py" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_instead_of_the_folder_is_one_clear_error(
    place: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    (tmp_path / "taken").touch()
    refused = fnbuild("init", tmp_path / place, "--kind", "http")
    assert refused.status == 1
    assert f"error: cannot write {tmp_path / place}/" in refused.err


@pytest.mark.parametrize("name", ["MyDetector", "yolo..v8_", "a" * 60])
def test_a_name_that_only_kubernetes_refuses_has_a_warning(
    name: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    outcome = fnbuild("init", tmp_path / name)
    assert (outcome.status, "Kubernetes does not take the name" in outcome.err) == (0, True)
    assert f"name: {name}\n" in (tmp_path / name / "function.yaml").read_text()
    checked = fnbuild("validate", "--strict", tmp_path / name)
    assert checked.status == 0, checked.out


@pytest.mark.parametrize("name", ["my function", "-f", ".f", "a" * 64])
def test_an_invalid_name_is_refused(name: str, tmp_path: Path, fnbuild: Fnbuild) -> None:
    refused = fnbuild("init", tmp_path / "f", f"--name={name}")
    assert refused.status == 2
    assert name in refused.err
    assert not (tmp_path / "f").exists()


def test_the_error_for_an_unknown_kind_lists_the_known_kinds(
    tmp_path: Path, fnbuild: Fnbuild
) -> None:
    refused = fnbuild("init", tmp_path / "f", "--kind", "oracle")
    assert refused.status == 2
    assert 'kind "oracle"' in refused.err
    assert "detector, " in refused.err


def test_a_task_uses_opencv_and_a_framework_needs_a_detector(
    tmp_path: Path, fnbuild: Fnbuild
) -> None:
    assert fnbuild("init", tmp_path / "a", "--task", "classification").status == 0
    assert "vision.Classifier" in (tmp_path / "a" / "main.py").read_text()
    assert "cv2.Laplacian" in (tmp_path / "a" / "model.py").read_text()
    assert fnbuild("init", tmp_path / "b", "--framework", "onnx", "--kind", "detector").status == 0
    assert "vision.Detector" in (tmp_path / "b" / "main.py").read_text()
    assert (tmp_path / "b" / "model.onnx").is_file()
    refused = fnbuild("init", tmp_path / "c", "--task", "detection", "--kind", "tracker")
    assert refused.status == 2
    assert "not for kind tracker" in refused.err
    assert not (tmp_path / "c").exists()
