"""`fnbuild build` on the available engine: the image, and the command's output."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome
from tests.engine import PYTHON_IMAGE, EngineResources, free_port, require_image

pytestmark = pytest.mark.system

Fnbuild = Callable[..., Outcome]


@pytest.fixture
def image(resources: EngineResources) -> str:
    require_image(resources.engine)
    return resources.image("cli")


@pytest.fixture
def folder(tmp_path: Path, image: str) -> Path:
    folder = tmp_path / "function"
    folder.mkdir()
    (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (folder / "function.yaml").write_text(
        "metadata: {name: built}\n"
        "spec:\n"
        "  handler: main:handler\n"
        "  runtime: 'python:3.11'\n"
        "  build:\n"
        f"    {{image: {image}, baseImage: '{PYTHON_IMAGE}', commands: [echo $WORD > /word]}}\n"
    )
    return folder


def test_each_form_of_the_result(fnbuild: Fnbuild, empty: Path, folder: Path, image: str) -> None:
    command = ("build", "--path", folder, "--engine", "docker")
    done = fnbuild(*command, "-o", "name", "--build-arg", "WORD=hello")
    assert (done.status, done.out) == (0, f"{image}\n"), done.err
    assert f"built {image}" in done.err

    done = fnbuild(*command)
    assert done.status == 0, done.err
    header, row = done.out.splitlines()
    assert header.split() == ["IMAGE", "|", "ID", "|", "SIZE", "|", "PYTHON"]
    assert row.startswith(image)

    result = json.loads(fnbuild(*command, "-o", "json").out)
    assert result["image"] == image
    assert result["base"] == PYTHON_IMAGE
    assert result["id"].startswith("sha256:")
    assert {item["from"] for item in result["layers"]} == {"base", "function", "fnbuild"}

    wide = fnbuild(*command, "-o", "wide").out
    assert "echo $WORD > /word" in wide
    assert wide.splitlines()[-1].endswith(image)


def test_a_saved_image_runs_elsewhere(
    fnbuild: Fnbuild, empty: Path, folder: Path, image: str, resources: EngineResources
) -> None:
    file = folder.parent / "image.tar"
    done = fnbuild("build", "--path", folder, "--engine", "docker", "--output-image-file", file)
    assert done.status == 0, done.err
    resources.engine.remove(image)
    place = ("--platform", "local", "-n", resources.name("ns"))
    source = ("--file", folder / "function.yaml", "--input-image-file", file)
    planned = fnbuild("deploy", "built", *source, *place, "--dry-run")
    assert (planned.status, resources.engine.inspect(image)) == (2, None), planned.err
    try:
        done = fnbuild("deploy", "built", *source, *place, "-o", "url")
        assert done.status == 0, done.err
        assert f"loaded {image}" in done.err
        with urllib.request.urlopen(done.out.strip(), timeout=60) as reply:
            assert reply.read() == b"1"
    finally:
        fnbuild("delete", "function", "built", *place, "--image")


def test_step_output_is_shown_on_failure_or_request(
    fnbuild: Fnbuild, empty: Path, folder: Path, resources: EngineResources
) -> None:
    config = folder / "function.yaml"
    config.write_text(config.read_text().replace("echo $WORD > /word", "echo loud"))
    command = ("build", "--path", folder, "--engine", "docker", "--no-cache", "--no-pull")
    assert "    loud" not in fnbuild(*command).err
    assert "    loud" in fnbuild(*command, "--verbose").err
    config.write_text(config.read_text().replace("echo loud", "echo loud; exit 7"))
    done = fnbuild(*command)
    assert done.status == 1
    assert "loud" in done.err
    assert "function.yaml:6" in done.err
    assert "Traceback" not in done.err


def test_an_unknown_engine(fnbuild: Fnbuild, empty: Path, folder: Path) -> None:
    done = fnbuild("build", "--path", folder, "--engine", "rocket")
    assert done.status == 2
    assert "docker, podman, buildah" in done.err


def test_an_image_file_in_a_missing_folder_is_reported_before_the_build(
    fnbuild: Fnbuild, empty: Path, folder: Path
) -> None:
    command = ("build", "--path", folder, "--engine", "docker", "--output-image-file")
    done = fnbuild(*command, folder / "nowhere" / "image.tar")
    assert done.status == 1
    assert "there is no folder" in done.err
    assert "step 1/" not in done.err


@pytest.mark.usefixtures("empty", "resources")
def test_prepare_offline(fnbuild: Fnbuild, folder: Path) -> None:
    command = ("build", "--prepare-offline", "--path", folder, "--engine", "docker")
    done = fnbuild(*command)
    assert (done.status, done.out) == (0, ""), done.err
    assert f"the base image {PYTHON_IMAGE} is here" in done.err
    done = fnbuild(*command, "--base-image", f"127.0.0.1:{free_port()}/nothing:1")
    assert done.status == 1
    assert "cannot be pulled" in done.err


@pytest.mark.usefixtures("empty")
def test_inline_source_needs_nothing_else(fnbuild: Fnbuild, resources: EngineResources) -> None:
    image = resources.image("inline")
    require_image(resources.engine)
    source = "def handler(context, event):\n    return 1\n"
    command = ("build", "inline", "--source", source, "--image", image, "--engine", "docker")
    done = fnbuild(*command, "--base-image", PYTHON_IMAGE, "-o", "name")
    assert (done.status, done.out) == (0, f"{image}\n"), done.err
    ran = resources.engine.run(image, ["cat", "/opt/nuclio/main.py"])
    assert ran.out == source
