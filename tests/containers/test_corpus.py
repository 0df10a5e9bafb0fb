"""Configurations as users write them, built and run on replacements for their base images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request
from tests.builder.image.bases import docker
from tests.conftest import ROOT
from tests.containers import bases
from tests.containers.conftest import User
from tests.engine import PYTHON_IMAGE

pytestmark = pytest.mark.system

FUNCTIONS = ROOT / "tests/data/functions"

MAIN = """\
import json
import os
import sys


def handler(context, event):
    found = {
        "python": "%d.%d" % sys.version_info[:2],
        "executable": sys.executable,
        "environment": dict(os.environ),
        "asked": event.body,
    }
    return context.Response(
        body=json.dumps(found), headers={}, content_type="application/json", status_code=200
    )
"""


def _python() -> str:
    return PYTHON_IMAGE


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """Return `folder(name)`: the function of that name, with code that reports where it runs."""

    def write(name: str) -> Path:
        function_folder = tmp_path / name
        function_folder.mkdir()
        text = (FUNCTIONS / f"{name}.yaml").read_text()
        (function_folder / "function.yaml").write_text(text)
        handler = load_function(FUNCTIONS / f"{name}.yaml").function.spec.handler
        (function_folder / f"{handler.partition(':')[0]}.py").write_text(MAIN)
        return function_folder

    return write


def _deploy(user: User, folder: Path, base: str) -> Any:
    """Deploy the function, and return its reply."""
    image = user.resources.image(folder.name)
    url = user.deploy("--path", folder, "--base-image", base, "--image", image)
    answer = request("POST", url, "/", b'"x"', {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    reply = json.loads(answer.body)
    assert reply["asked"] == "x"
    return reply


def test_a_conda_environment_runs_the_function(user: User, folder: Callable[[str], Path]) -> None:
    report = _deploy(user, folder("conda-mask"), bases.miniconda())
    assert report["python"] == "3.6"
    assert report["executable"] == "/opt/conda/envs/cells/bin/python3"
    # The function's ENTRYPOINT runs the processor.
    assert report["environment"]["CONDA_DEFAULT_ENV"] == "cells"
    assert report["environment"]["PYTHONPATH"].endswith("/opt/nuclio/cells:/opt/nuclio")


def test_python_is_installed_into_a_base_image_without_it(
    user: User, folder: Callable[[str], Path]
) -> None:
    path = folder("sam-interactor")
    report = _deploy(user, path, bases.bare())
    assert report["python"] == "3.11"
    assert report["environment"]["HF_TOKEN"] == ""
    facts = user.resources.engine.inspect(user.resources.images[-1])
    assert facts is not None
    assert facts.workdir == "/opt/nuclio/sam"


def test_unknown_keys_are_ignored(user: User, folder: Callable[[str], Path]) -> None:
    report = _deploy(user, folder("guessed-keys"), bases.with_python())
    assert report["python"] == "3.11"
    commands = docker("exec", user.container("tf-deep-guess"), "cat", "/opt/stand-in/asked")
    assert commands.splitlines()[-2:] == ["apt-get update", "pip install tensorflow"]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("reid", _python),
        ("volumes", _python),
        ("yolo-gpu", bases.bare),
    ],
)
def test_configurations_are_built(
    user: User, folder: Callable[[str], Path], name: str, base: Callable[[], str]
) -> None:
    """These functions cannot run here: they need a GPU, files or ports of another machine."""
    image = user.resources.image(name)
    output = user.fnbuild(
        *("build", "--path", folder(name), "--base-image", base(), "--image", image, "-o", "json")
    )
    built = json.loads(output)
    assert built["image"] == image
    assert built["python"]["version"].startswith("3.11.")
