"""The choice of the platform, and configurations that name an existing image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fnbuild.deploy.pipeline import DeployRequest, choose_platform, deploy, plan, prepare
from fnbuild.errors import UnavailableError, UsageError
from tests.cluster import require_cluster
from tests.engine import free_port, require_engine


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_auto_selects_a_configured_cluster_that_answers() -> None:
    require_cluster()
    platform, reason = choose_platform("auto")
    assert (platform.name, platform.artifact_kind) == ("kube", "image")
    assert "a cluster is configured and answers" in reason


def test_auto_skips_an_unreachable_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine()
    config = tmp_path / "config"
    entry = {"name": "gone", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}
    context = {"name": "gone", "context": {"cluster": "gone", "user": "me"}}
    contexts = {"clusters": [entry], "users": [{"name": "me", "user": {}}], "contexts": [context]}
    config.write_text(json.dumps({"current-context": "gone", **contexts}))
    monkeypatch.setenv("KUBECONFIG", str(config))
    platform, reason = choose_platform("auto")
    assert platform.name == "local"
    assert "gone" in reason
    assert reason.endswith("a container engine answers")


def test_auto_selects_containers_if_an_engine_answers(no_cluster: None) -> None:
    require_engine()
    platform, reason = choose_platform("auto")
    assert (platform.name, platform.artifact_kind) == ("local", "image")
    assert "a container engine answers" in reason


def test_auto_selects_processes_without_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cluster: None
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/missing.sock")
    platform, reason = choose_platform("auto")
    assert (platform.name, platform.artifact_kind) == ("process", "folder")
    assert "no container engine answers" in reason


def _write(folder: Path, build: str) -> DeployRequest:
    (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (folder / "function.yaml").write_text(
        "metadata: {name: ready}\n"
        f"spec: {{handler: main:handler, runtime: 'python:3.11', {build}}}\n"
    )
    return DeployRequest(path=folder)


@pytest.mark.parametrize("build", ["codeEntryType: image", "mode: neverBuild"])
def test_the_image_is_read_from_the_configuration(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    request = _write(tmp_path, f"image: faces:1, build: {{{build}}}")
    assert prepare(request).image == "faces:1"
    with pytest.raises(UnavailableError, match="faces:1 is an image"):
        deploy(request, lambda _: None)
    with pytest.raises(UsageError, match=r"spec\.image names no image"):
        prepare(_write(tmp_path, f"build: {{{build}}}"))


def test_a_gpu_group_has_no_effect_on_other_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cluster: None
) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "grouped"
    folder.mkdir()
    (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (folder / "function.yaml").write_text(
        "metadata:\n  name: grouped\n  annotations: {fnbuild.io/gpu-group: vision}\n"
        "spec: {handler: main:handler, runtime: 'python:3.11'}\n"
    )
    planned = plan(DeployRequest(path=folder, platform="torchserve"))
    text = "the GPU group vision has no effect on the platform torchserve"
    assert [warning for warning in planned.warnings if warning.startswith(text)]
    planned = plan(DeployRequest(path=folder, platform="process"))
    assert not [warning for warning in planned.warnings if "GPU group" in warning]
