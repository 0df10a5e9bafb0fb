"""What tests of every part share."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import reaper
from tests.engine import EngineResources, engine_resources, require_engine

ROOT = Path(__file__).resolve().parent.parent

# Who starts the tests in the background may have them ignored, and what tests start inherits that.
with suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Have everything that the tests start end with the run."""
    if not hasattr(config, "workerinput"):  # with workers, only in the process that started them
        reaper.start()


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Path]:
    """The path of a real photograph by its name; fetched once, then kept in the cache."""

    def find(name: str) -> Path:
        cached = ROOT / ".cache" / "photos" / name
        if not cached.is_file():
            subprocess.run([sys.executable, ROOT / "scripts" / "photos", name], check=True)
        return cached

    return find


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def resources() -> Iterator[EngineResources]:
    """Names in the Docker engine that is there; what has them goes at the end of the test."""
    with engine_resources(require_engine()) as resources:
        yield resources
