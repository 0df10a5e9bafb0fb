"""Hints of deploys that fail because something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.builder.artifact import Artifact
from fnbuild.builder.interpreter import missing_base_image
from fnbuild.deploy import dependency_hints
from fnbuild.errors import NotReadyError
from fnbuild.function.types import Build, EnvVar, Function, Spec
from fnbuild.platforms import Plan

LINES = (
    "USER root",
    "apt-get update",
    "apt-get install -y libgl1",
    "conda install -y detectron2",
    "wget -q models.example.com/x.pt",
    "ENV WEIGHTS=/x.pt",
)


def hint_of(
    message: str, *, kind: str = "folder", folder: Path | None = None, base: str = ""
) -> str:
    function = Function(spec=Spec(build=Build(base_image=base)))
    artifact = Artifact(kind, "reference", "")  # type: ignore[arg-type]
    plan = Plan(function, artifact, (), ignored_build_lines=LINES)
    error = NotReadyError("it did not become ready", detail=message)
    dependency_hints.add_hint(error, plan, folder)
    return error.hint or ""


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        (
            "ModuleNotFoundError: No module named 'detectron2.layers'",
            "conda install -y detectron2; wget -q models.example.com/x.pt",
        ),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "apt-get install -y libgl1; conda install -y detectron2;"
            " wget -q models.example.com/x.pt",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'x.pt'",
            "wget -q models.example.com/x.pt",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg'",
            "apt-get install -y libgl1; conda install -y detectron2;"
            " wget -q models.example.com/x.pt",
        ),
        ("KeyError: 'WEIGHTS'", "ENV WEIGHTS=/x.pt"),
        ("KeyError: 'OTHER'", ""),
        ("ValueError: no weights", ""),
    ],
)
def test_hints_name_only_lines_that_may_be_the_cause(message: str, lines: str) -> None:
    hint = hint_of(message)
    if lines:
        assert hint.endswith(f"these build lines were left out here, which may be why: {lines}")
    else:
        assert hint == ""


def test_the_hint_for_a_missing_module_depends_on_the_platform() -> None:
    text = "ModuleNotFoundError: No module named 'cv2'"
    assert hint_of(text, kind="image").startswith(
        "name opencv-python-headless in requirements.txt or a `pip install` directive,"
        " or choose a base image that has it"
    )
    assert "NUCLIO_PYTHON_EXE_PATH to an interpreter that has cv2" in hint_of(text)
    assert "the base image a/b:1 may have cv2" in hint_of(text, base="a/b:1")


def test_a_misspelt_module_of_the_folder_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "model_handler.py").touch()
    text = "ModuleNotFoundError: No module named 'model_handlr'"
    assert hint_of(text, folder=tmp_path) == "did you mean model_handler?"


@pytest.mark.parametrize(
    ("image", "interpreter", "expected"),
    [
        ("", "", ""),
        ("python:3.9-slim", "", ""),
        ("registry.example.com:5000/library/python:3.9", "", ""),
        ("continuumio/miniconda3", "", ""),
        ("pytorch/pytorch:2.1.0", "", "pytorch/pytorch:2.1.0"),
        ("pytorch/pytorch:2.1.0", "/opt/no/python", "pytorch/pytorch:2.1.0"),
        ("pytorch/pytorch:2.1.0", "/bin/sh", ""),
    ],
)
def test_base_images_with_possible_packages_are_named(
    image: str, interpreter: str, expected: str
) -> None:
    variables = [EnvVar(name="NUCLIO_PYTHON_EXE_PATH", value=interpreter)] if interpreter else []
    function = Function(spec=Spec(build=Build(base_image=image), env=variables))
    assert missing_base_image(function) == expected
