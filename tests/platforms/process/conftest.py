"""A data directory for each test; all of its processes end with the test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.process import ProcessPlatform
from tests.platforms.process.author import NAMESPACE, Author, processes, wait_for


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory; the test fails if a process still uses it after `down`."""
    folder = tmp_path / "data"
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    try:
        yield folder
        ProcessPlatform().down()
        wait_for(lambda: not processes(folder))
        assert processes(folder) == []
    finally:
        for pid in processes(folder):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def platform(data: Path) -> ProcessPlatform:
    return ProcessPlatform()


@pytest.fixture
def namespace() -> str:
    return NAMESPACE


@pytest.fixture
def platform_name() -> str:
    return "process"


@pytest.fixture
def author(tmp_path: Path, data: Path) -> Author:
    return Author(tmp_path)
