"""The article about TorchServe and KServe: from a handler to a prediction of a local server."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fnbuild.cli.app import run
from tests.conftest import ROOT
from tests.torchserve_server import archive, torchserve_python

pytestmark = [pytest.mark.system, pytest.mark.versions]

DATA = ROOT / "tests/data/torchserve"
# As the article has them; the handler is given by its name.
OPTIONS = (
    *("--serialized-file", "pipeline.pth", "--extra-files", "extra", "--runtime", "python"),
    *("--requirements-file", "extra/requirements.txt"),
)

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Shell]:
    """Run command lines for this machine; return their status, output and messages."""
    monkeypatch.setenv("FNBUILD_TORCHSERVE_PYTHON", str(torchserve_python()))
    monkeypatch.setenv("FNBUILD_PLATFORM", "torchserve")
    monkeypatch.delenv("KUBECONFIG", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*map(str, arguments)])
        output = capsys.readouterr()
        return status, output.out, output.err

    yield call
    call("delete", "function", "pipeline")


def write_model(folder: Path) -> Path:
    """Write the files of the model as the article has them."""
    shutil.copytree(DATA / "pipeline", folder, ignore=shutil.ignore_patterns("__pycache__"))
    torch.save({"weight": torch.tensor([[1.0, 2.0, 3.0]])}, folder / "pipeline.pth")
    return folder


def content(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


def test_the_article_about_torchserve(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_model(tmp_path / "v1"))
    tree = tmp_path / "gs"
    store = tree / "model-store"
    store.mkdir(parents=True)

    # The archive has the same content as that of torch-model-archiver.
    command = ("package", "torchserve", "--model-name", "pipeline", "--version", "0.1", *OPTIONS)
    command += ("--handler", "handler.py", "--export-path", store)
    status, printed, messages = shell(*command)
    assert (status, printed) == (0, f"{store / 'pipeline.mar'}\n"), messages
    original = content(archive("pipeline", "handler.py", tmp_path, *OPTIONS, version="0.1"))
    packed = content(store / "pipeline.mar")
    manifests = [json.loads(files.pop("MAR-INF/MANIFEST.json")) for files in (original, packed)]
    assert packed == original
    assert {"handler.py", "config.py", "sub_module/network.py", "pipeline.pth"} <= set(packed)
    assert manifests[0]["model"] == manifests[1]["model"]
    # An archive that exists is replaced by --force only.
    assert shell(*command)[0] == 1
    assert shell(*command, "--force")[0] == 0

    # config.properties as written has comments that Java takes as values, unknown keys, one port
    # for two APIs, and names another model.
    config = tree / "config" / "config.properties"
    config.parent.mkdir()
    shutil.copy(DATA / "config.properties", config)
    status, report, _ = shell("validate", tree)
    assert status == 1
    for line, finding in (
        (2, "inference_address and management_address share port 8085"),
        (7, "TorchServe ignores the unknown key 'metrics_format'"),
        (8, "TorchServe ignores the unknown key 'config_path'"),
        (9, "TorchServe ignores the unknown key 'gpu_id'"),
        (10, "Java has no comments after values: model_store is"),
        (11, "which counts as false"),
        (12, "model-store has no my_model.mar: the server does not start"),
    ):
        assert any(
            text.startswith(f"{config}:{line}:") and finding in text for text in report.splitlines()
        ), finding
    # What has one remedy is repaired; the model's name is not such a thing.
    status, report, messages = shell("validate", tree, "--fix")
    assert (status, messages.count("\nfixed ")) == (1, 5)
    assert "model-store has no my_model.mar" in report
    config.write_text(config.read_text().replace("my_model", "pipeline"))
    status, report, messages = shell("validate", tree, "--fix")
    assert status == 0, report
    assert "1.0 became 0.1" in messages
    text = config.read_text()
    assert "\ninstall_py_dep_per_model=true\n" in text
    assert "\nmodel_store=/mnt/models/model-store\n" in text

    # TorchServe serves the tree on this machine, with the paths of this machine.
    status, _, messages = shell("deploy", "--path", tree)
    assert status == 0, messages
    body = json.dumps({"data": [1, 2, 3]})
    body = ("-c", "application/json", "-b", json.dumps({"data": [1, 2, 3]}))
    for path in ("/", "/0.1"):
        status, reply, messages = shell("invoke", "pipeline", *body, "-p", path)
        assert (status, json.loads(reply)) == (0, {"sum": 140.0}), messages
    assert config.read_text() == text
