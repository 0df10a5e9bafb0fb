"""Fixtures of the tests of the configuration."""

from pathlib import Path

import pytest

from tests.function.function_folder import Folder

DATA = Path(__file__).resolve().parent.parent / "data" / "functions"


@pytest.fixture
def data() -> Path:
    """The folder of realistic configuration files."""
    return DATA


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with a main.py, to write configurations into."""
    path = tmp_path / "fn"
    path.mkdir()
    return Folder(path)
