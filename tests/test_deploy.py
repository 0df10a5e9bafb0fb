"""Which platform a deploy goes to, and what a configuration says of a ready image."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.deploy import DeployRequest, choose_platform, deploy, prepare
from fnbuild.errors import UnavailableError, UsageError
from tests.engine import require_engine


def test_auto_takes_containers_where_an_engine_answers() -> None:
    require_engine()
    platform, reason = choose_platform("auto")
    assert (platform.name, platform.runs) == ("local", "image")
    assert "a container engine answers" in reason


def test_auto_takes_processes_where_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    platform, reason = choose_platform("auto")
    assert (platform.name, platform.runs) == ("process", "folder")
    assert "no container engine answers" in reason


def _write(folder: Path, build: str) -> DeployRequest:
    (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (folder / "function.yaml").write_text(
        "metadata: {name: ready}\n"
        f"spec: {{handler: main:handler, runtime: 'python:3.11', {build}}}\n"
    )
    return DeployRequest(path=folder)


@pytest.mark.parametrize("build", ["codeEntryType: image", "mode: neverBuild"])
def test_an_image_that_is_the_code_is_taken_from_the_configuration(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    request = _write(tmp_path, f"image: faces:1, build: {{{build}}}")
    assert prepare(request).image == "faces:1"
    with pytest.raises(UnavailableError, match="faces:1 is an image"):
        deploy(request, lambda _: None)
    with pytest.raises(UsageError, match=r"spec\.image names no image"):
        prepare(_write(tmp_path, f"build: {{{build}}}"))
