"""The base image of a function that names none."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fnbuild.builder.image import base_images
from fnbuild.builder.image.base_images import choose_base_image, release_allowed
from fnbuild.function.types import Build, Function, Resources, Spec

TABLE = tomllib.loads(Path(base_images.__file__).with_name("cuda.toml").read_text())


def function(python: str, gpu: str = "1", **build: object) -> Function:
    limits = {"nvidia.com/gpu": gpu} if gpu else {}
    runtime = f"python:{python}"
    return Function(
        spec=Spec(runtime=runtime, resources=Resources(limits=limits), build=Build(**build))  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("gpu", ["", "0"])
def test_without_a_gpu_the_base_image_is_python(gpu: str) -> None:
    base = choose_base_image(function("3.10", gpu), ["torch==2.7.1"])
    assert base == base_images.BaseImage("python:3.10")
    assert choose_base_image(function("3.9.1", gpu), []).image == "python:3.9.1"


def test_an_explicit_base_image_is_kept() -> None:
    own_image = function("3.10", base_image="a/b:c", base_image_registry="r:5000")
    assert choose_base_image(own_image, ["torch"]) == base_images.BaseImage("a/b:c")


@pytest.mark.parametrize("registry", ["r:5000/x", "https://r:5000/x/"])
def test_the_base_image_registry_is_a_prefix(registry: str) -> None:
    with_registry = function("3.11", "", base_image_registry=registry)
    assert choose_base_image(with_registry, []).image == "r:5000/x/python:3.11"
    with_registry = function("3.11", base_image_registry=registry)
    assert choose_base_image(with_registry, ["torch==2.7.1"]).image.startswith(
        "r:5000/x/pytorch/pytorch:2.7.1-"
    )


@pytest.mark.parametrize(
    ("python", "packages", "image"),
    [
        ("3.11", ["torch==2.7.1"], "2.7.1-cuda12.8-cudnn9"),
        ("3.11.4", ["torch == 2.7.1"], "2.7.1-cuda12.8-cudnn9"),
        ("3.11", ["numpy", "Torch>=2.4,<2.6 ; sys_platform == 'linux'"], "2.5.1-cuda12.4-cudnn9"),
        ("3.11", ["torch~=2.6.0"], "2.6.0-cuda12.4-cudnn9"),
        ("3.10", ["torch"], "2.3.1-cuda12.1-cudnn8"),
        ("3.10", ["torch==2.1.2+cu118"], "2.1.2-cuda11.8-cudnn8"),
        ("3.10", ["torchvision==0.17.2"], "2.2.2-cuda12.1-cudnn8"),
        ("3.11", ["ultralytics==8.3.0", "torch==2.8.*"], "2.8.0-cuda12.8-cudnn9"),
        ("3.12", ["open_clip.torch"], "2.11.0-cuda12.8-cudnn9"),
        ("3.11", ["torch @ https://example.com/torch-2.whl"], "2.9.1-cuda12.8-cudnn9"),
    ],
)
def test_torch_and_python_select_the_image(python: str, packages: list[str], image: str) -> None:
    base = choose_base_image(function(python), packages)
    assert (base.image, base.warnings) == (f"pytorch/pytorch:{image}-runtime", ())


def test_an_image_with_another_python_is_not_selected() -> None:
    base = choose_base_image(function("3.12"), ["torch==2.7.1"])
    assert base.image == "python:3.12"
    (warning,) = base.warnings
    for part in ("torch==2.7.1", "3.11", "pytorch/pytorch:2.7.1-cuda12.8", "build.baseImage"):
        assert part in warning


def test_an_unknown_torch_release() -> None:
    (warning,) = choose_base_image(function("3.11"), ["torch==1.5"]).warnings
    assert "torch==1.5" in warning
    assert "1.13.1 to " in warning
    (warning,) = choose_base_image(
        function("3.11"), ["torch==2.7.1+cu128", "torchvision==0.1"]
    ).warnings
    assert "torchvision==0.1" in warning


def test_without_torch_the_base_image_is_cuda() -> None:
    base = choose_base_image(function("3.10"), ["onnxruntime-gpu"])
    assert base.image == "nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04"
    assert "python3" in base.setup[0]
    assert choose_base_image(function("3.10"), []).image == base.image


def test_without_torch_and_without_a_matching_image() -> None:
    for unsupported in (function("3.11"), function("3.10", offline=True)):
        base = choose_base_image(unsupported, ["onnxruntime-gpu"])
        assert base.image == unsupported.spec.runtime
        assert "3.12, 3.10, 3.8" in base.warnings[0]


@pytest.mark.parametrize(
    "text", ["./lib", "git+https://example.com/torch", "-e .", "", "lib/torch"]
)
def test_requirements_without_a_package_name(text: str) -> None:
    assert choose_base_image(function("3.10"), [text]).image.startswith("nvidia/")


@pytest.mark.parametrize(
    ("specifiers", "yes", "no"),
    [
        ("==2.7.1", ["2.7.1"], ["2.7.0", "2.7.10"]), ("==2.7", ["2.7.0"], ["2.7.1"]),
        ("==2.7.*", ["2.7.0", "2.7.1"], ["2.8.0", "2.70.0"]), ("!=2.7.*", ["2.8.0"], ["2.7.1"]),
        (">=2,<2.6", ["2.0.0", "2.5.1"], ["1.13.1", "2.6.0"]), ("~=2.1", ["2.9.0"], ["2.0.1"]),
        ("~=2.1.1", ["2.1.2"], ["2.1.0", "2.2.0"]), (">2.7,!=2.8.0", ["2.7.1"], ["2.7.0", "2.8.0"]),
        ("==2.7.1+cu128", ["2.7.1"], ["2.7.0"]), ("", ["1", "9"], []), ("===2.7.1", ["2.7.1"], []),
        (">=2.10", ["2.11.0"], ["2.9.1"]),
    ],
)  # fmt: skip
def test_specifiers(specifiers: str, yes: list[str], no: list[str]) -> None:
    assert [release_allowed(specifiers, release) for release in yes] == [True] * len(yes)
    assert [release_allowed(specifiers, release) for release in no] == [False] * len(no)


def test_every_row_of_the_table() -> None:
    releases = []
    for row in TABLE["torch"]:
        assert set(row) <= {"image", "torch", "torchvision", "python", "cuda", "setup"}
        assert row["torch"] in row["image"]
        assert re.fullmatch(r"pytorch/pytorch:[\d.]+-cuda\{cuda\}-cudnn[89]-runtime", row["image"])
        assert row["python"] in ("3.10", "3.11", "3.12")
        assert all(re.fullmatch(r"1[123]\.\d", cuda) for cuda in row["cuda"])
        releases.append(tuple(int(part) for part in row["torch"].split(".")))
        # Releases of torchvision follow those of torch: 0.15 belongs to 2.0.
        minor = int(row["torchvision"].split(".")[1])
        assert minor - 15 == releases[-1][1] if releases[-1][0] == 2 else minor == 14
    # The newest first: the first row that matches is used.
    assert releases == sorted(releases, reverse=True)
    assert len(set(releases)) == len(releases)
    for row in TABLE["cuda"]:
        assert set(row) == {"image", "python", "setup"}
        ubuntu = row["image"].rpartition("ubuntu")[2]
        assert {"20.04": "3.8", "22.04": "3.10", "24.04": "3.12"}[ubuntu] == row["python"]
    assert all(name == name.lower() for name in TABLE["needs_torch"])
