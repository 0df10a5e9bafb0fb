"""TorchServe on this machine: data directories, whose servers end with the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms import Platform, lookup
from fnbuild.platforms.torchserve.server import LocalServer
from tests.torchserve_server import torchserve_python

# A small virtual machine of Java starts faster.
_JAVA_OPTIONS = "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"


TORCH = """\
from types import SimpleNamespace

class Tensor:
    pass

cuda = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
"""
"""The part of PyTorch that TorchServe's worker uses for a handler that does not use it."""


def python_without_torch(folder: Path) -> Path:
    """Return an interpreter with TorchServe and a substitute for PyTorch.

    Each worker imports PyTorch, which takes most of a server's start.
    """
    real = torchserve_python()
    base = next(real.parent.parent.glob("lib/python3.*"))
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(real.resolve())
    shutil.copy(real.parent.parent / "pyvenv.cfg", folder)
    packages = folder / "lib" / base.name / "site-packages"
    (packages / "torch").mkdir(parents=True)
    (packages / "torch/__init__.py").write_text(TORCH)
    (packages / "torchserve.pth").write_text(f"{base}/site-packages\n")
    return folder / "bin/python"


def use_data_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Use a data directory on this machine; its servers end after the test, and have no PyTorch."""
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    python = python_without_torch(folder.with_name("torchserve"))
    monkeypatch.setenv("FNBUILD_TORCHSERVE_PYTHON", str(python))
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", _JAVA_OPTIONS)
    yield folder
    for server in folder.glob("functions/torchserve@*/*/server"):
        LocalServer(server).stop()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from use_data_directory(tmp_path / "data", monkeypatch)


@pytest.fixture
def platform(data: Path) -> Platform:
    return lookup("torchserve")


@pytest.fixture
def namespace() -> str:
    return "nuclio"


@pytest.fixture
def platform_name() -> str:
    return "torchserve"
