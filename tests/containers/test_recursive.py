"""`deploy --recursive` in containers: a folder like CVAT's, with its own base images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.containers.conftest import PROGRAM, User
from tests.engine import PYTHON_IMAGE, call

pytestmark = pytest.mark.system

CODE = "import os\ndef handler(context, event):\n    return os.environ['SEEN']\n"


def _function(user: User, folder: Path, name: str, base: str) -> None:
    folder.mkdir(parents=True)
    build = f"{{baseImage: {base}, image: '{user.resources.image(name)}'}}"
    (folder / "function.yaml").write_text(
        f"metadata: {{name: {name}}}\n"
        f'spec: {{runtime: "python:3.11", handler: "main:handler", build: {build},\n'
        "  triggers: {http: {kind: http, numWorkers: 1}}}\n"
    )
    (folder / "main.py").write_text(CODE)


def test_base_images_next_to_functions_are_built_first(user: User, tmp_path: Path) -> None:
    top = tmp_path / "serverless"
    # The names of base images come from the folders, which have unique names.
    kit = user.resources.name("kit")
    shared_base, own_base = f"cvat.{kit}.base", f"cvat.{kit}.public.net.base"
    user.resources.images += [f"{shared_base}:latest", f"{own_base}:latest"]
    user.resources.dockerfile(top / kit / "base", f"FROM {PYTHON_IMAGE}\nENV SHARED=one")
    net = top / kit / "public" / "net" / "nuclio"
    _function(user, net, "net", own_base)
    user.resources.dockerfile(net, f"FROM {shared_base}\nENV SEEN=$SHARED-two")
    # This function uses another base image, so its Dockerfile is ignored.
    other = top / kit / "public" / "other" / "nuclio"
    _function(user, other, "other", PYTHON_IMAGE)
    user.resources.dockerfile(other, f"FROM {PYTHON_IMAGE}\nRUN exit 1")

    arguments = ("deploy", "--recursive", "--project-name", "cvat", "--platform", "local")
    result = user.run(PROGRAM, *arguments, "--env", "SEEN=flag", "--path", top / kit / "public")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("net: building the base image") == 2
    assert "other: building the base image" not in result.stderr
    images = call(user.resources.engine, "images", "--format", "{{.Repository}}").split()
    assert {shared_base, own_base} <= set(images)
    function = user.describe("net")
    assert function["spec"]["build"]["baseImage"] == own_base
    assert function["metadata"]["labels"]["nuclio.io/project-name"] == "cvat"
    environment = user.inspect_container("net")["Config"]["Env"]
    assert "SHARED=one" in environment
    assert user.fnbuild("invoke", "net", "--platform", "local").strip() == "flag"


def test_a_failed_base_image_fails_only_its_function(user: User, tmp_path: Path) -> None:
    kit = user.resources.name("kit")
    bad = tmp_path / kit / "bad" / "nuclio"
    _function(user, bad, "bad", f"cvat.{kit}.bad.base")
    user.resources.dockerfile(bad, f"FROM {PYTHON_IMAGE}\nRUN echo no weights here; exit 3")
    _function(user, tmp_path / kit / "good" / "nuclio", "good", PYTHON_IMAGE)
    arguments = ("deploy", "--recursive", "--platform", "local", "--env", "SEEN=here", "-o", "json")
    result = user.run(PROGRAM, *arguments, "--path", tmp_path / kit)
    assert result.returncode == 1
    assert [row["state"] for row in json.loads(result.stdout)] == ["failed", "ready"]
    assert "no weights here" in result.stderr
    assert user.fnbuild("invoke", "good", "--platform", "local").strip() == "here"
