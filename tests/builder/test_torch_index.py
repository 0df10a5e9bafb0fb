"""PyTorch's CPU builds on a machine without GPU: real pip, package indexes on the loopback."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.builder import environment, torch_index
from fnbuild.builder.interpreter import choose_interpreter
from fnbuild.builder.requirements import Requirements, collect_requirements
from fnbuild.function.types import Build, Function, Resources, Spec

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def _unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pip configuration, no GPU, and a CPU index that does not answer."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(torch_index.INDEX_VARIABLE, "http://127.0.0.1:9/cpu")
    monkeypatch.setattr(torch_index, "has_nvidia_driver", lambda: False)


@pytest.fixture
def indexes(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a server with `main`, which has torch 2.0, and `cpu`, which has 2.0+cpu."""
    _publish(tmp_path / "indexes" / "main", "torch", "2.0")
    _publish(tmp_path / "indexes" / "main", "other", "1.0")
    _publish(tmp_path / "indexes" / "cpu", "torch", "2.0+cpu")
    serve = functools.partial(_QuietHandler, directory=str(tmp_path / "indexes"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _publish(index: Path, name: str, version: str) -> None:
    folder = index / name
    folder.mkdir(parents=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{about}/RECORD", "")
    href = file.name.replace("+", "%2B")
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{href}">{file.name}</a>')


def request_of(tmp_path: Path, *commands: str, gpu: bool = False) -> tuple[Requirements, Function]:
    limits = {"nvidia.com/gpu": "1"} if gpu else {}
    spec = Spec(
        runtime="python", build=Build(commands=list(commands)), resources=Resources(limits=limits)
    )
    function = Function(spec=spec)
    folder = tmp_path / "function"
    folder.mkdir(exist_ok=True)
    return collect_requirements(function, folder), function


def test_the_cpu_build_is_installed(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(torch_index.INDEX_VARIABLE, f"{indexes}/cpu")
    wanted, function = request_of(tmp_path, "pip install torch==2.0 other")
    wanted = torch_index.prefer_cpu_builds(wanted, function)
    monkeypatch.setenv("PIP_INDEX_URL", f"{indexes}/main")
    python = environment.ensure_environment(choose_interpreter(function), wanted, lambda _: None)
    code = "import torch, other; print(torch.version, other.version)"
    printed = subprocess.check_output([str(python), "-c", code], cwd="/", text=True)
    assert printed.split() == ["2.0+cpu", "1.0"]


@pytest.mark.parametrize(
    "command",
    [
        "pip install numpy",
        "pip install torch==2.0+cu118",
        "pip install torch==2.0+cpu",
        "pip install torch --index-url http://127.0.0.1:9/cu118",
        "pip install --no-index torch",
        "pip install -f http://127.0.0.1:9/wheels torch",
        "pip install 'torch @ http://127.0.0.1:9/torch-2.0-py3-none-any.whl'",
    ],
)
def test_packages_with_their_own_source_are_unchanged(tmp_path: Path, command: str) -> None:
    wanted, function = request_of(tmp_path, command)
    assert torch_index.prefer_cpu_builds(wanted, function) is wanted


@pytest.mark.parametrize("package", ["torch", "torchvision>=0.20", "ultralytics", "torch[opt]"])
def test_packages_that_depend_on_torch_use_the_index(tmp_path: Path, package: str) -> None:
    wanted, function = request_of(tmp_path, f"pip install '{package}'", "pip install tiny")
    first, second = torch_index.prefer_cpu_builds(wanted, function).steps
    assert first.arguments[-2:] == ("--extra-index-url", "http://127.0.0.1:9/cpu")
    assert second is wanted.steps[1]


def test_requirements_files_are_considered(tmp_path: Path) -> None:
    wanted, function = request_of(tmp_path)
    file = tmp_path / "function" / "requirements.txt"
    file.write_text("torch\n")
    wanted = collect_requirements(function, file.parent)
    [step] = torch_index.prefer_cpu_builds(wanted, function).steps
    assert "--extra-index-url" in step.arguments
    file.write_text("--extra-index-url http://127.0.0.1:9/own\ntorch\n")
    wanted = collect_requirements(function, file.parent)
    assert torch_index.prefer_cpu_builds(wanted, function) is wanted


def test_with_a_gpu_the_cuda_build_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, function = request_of(tmp_path, "pip install torch", gpu=True)
    assert torch_index.prefer_cpu_builds(wanted, function) is wanted
    assert torch_index.cuda_torch_warning(wanted, function) == ""
    wanted, function = request_of(tmp_path, "pip install torch")
    assert "nvidia.com/gpu" in torch_index.cuda_torch_warning(wanted, function)
    monkeypatch.setattr(torch_index, "has_nvidia_driver", lambda: True)
    assert torch_index.prefer_cpu_builds(wanted, function) is wanted
    assert torch_index.cuda_torch_warning(wanted, function) == ""


def test_pips_configuration_is_kept_with_a_warning(
    tmp_path: Path, indexes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_INDEX_URL", f"{indexes}/main")
    wanted, function = request_of(tmp_path, "pip install torch")
    messages: list[str] = []
    changed = torch_index.prefer_cpu_builds(wanted, function)
    assert changed.steps == wanted.steps
    environment.ensure_environment(choose_interpreter(function), changed, messages.append)
    assert messages[0].startswith("warning: pip's configuration names the index of torch")
    assert "`--extra-index-url http://127.0.0.1:9/cpu`" in messages[0]
    messages.clear()
    environment.ensure_environment(choose_interpreter(function), changed, messages.append)
    assert not any(text.startswith("warning") for text in messages)


def test_a_configuration_for_cpu_builds_has_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/whl/cpu")
    wanted, function = request_of(tmp_path, "pip install torch")
    assert torch_index.prefer_cpu_builds(wanted, function) is wanted


def test_an_empty_variable_turns_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(torch_index.INDEX_VARIABLE, "")
    wanted, function = request_of(tmp_path, "pip install torch")
    assert torch_index.prefer_cpu_builds(wanted, function) is wanted
