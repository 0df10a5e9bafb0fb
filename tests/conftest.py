"""Fixtures for all tests."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import reaper
from tests.engine import (
    EngineResources,
    engine_resources,
    remove_discarded_images,
    require_engine,
)

ROOT = Path(__file__).resolve().parent.parent

# A shell that starts the tests in the background ignores these signals, and child processes inherit
# that.
with suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Start the reaper, which ends all processes of the tests after the run."""
    if not hasattr(config, "workerinput"):  # with xdist, only in the controller
        reaper.start()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without garbage collection: what is there afterwards stays to the end of the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Remove what the tests of this process have left in the engine."""
    remove_discarded_images()


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Path]:
    """Return `find(name)`: the path of a photograph, which is downloaded once and cached."""

    def find(name: str) -> Path:
        cached = ROOT / ".cache" / "photos" / name
        if not cached.is_file():
            subprocess.run([sys.executable, ROOT / "scripts" / "photos", name], check=True)
        return cached

    return find


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system with room for 1 MiB."""
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
    """Unique names in the Docker engine; their objects are removed after the test."""
    with engine_resources(require_engine()) as resources:
        yield resources
