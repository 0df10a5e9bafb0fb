"""Give every test its own data directory, and folders with functions."""

import os
from pathlib import Path

import pytest

from fnbuild.function.reader import load_function

CONFIG = """\
metadata:
  name: face
spec:
  handler: main:handler
  runtime: python:3.11
"""


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    """A function's folder with a configuration and a handler."""
    folder = tmp_path / "face"
    folder.mkdir()
    (folder / "function.yaml").write_text(CONFIG)
    (folder / "main.py").write_text("def handler(context, event):\n    return 'ok'\n")
    return folder


@pytest.fixture
def loaded(folder):
    """Read the folder, after the test has changed it."""
    return lambda path=folder, **options: load_function(path, **options)


@pytest.fixture
def write(folder):
    """Write a file of the function: `write("sub/a.py", "text")`."""

    def write(name: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        return path

    return write
