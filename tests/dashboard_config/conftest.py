"""The dashboard's own image, built once for all tests of a run."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fnbuild.builder.image.engine import BuildRequest, Engine
from tests.conftest import ROOT
from tests.engine import PYTHON_IMAGE, EngineResources, call, require_engine, require_image, until

CONFIG = ROOT / "dashboard-config"
_FILE = CONFIG / "image" / "Dockerfile"


@dataclass(frozen=True)
class Images:
    """`plain` is for clusters, `docker` has an engine's client; `engine` has both."""

    engine: Engine
    plain: str
    docker: str


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    """Made by the first test process that comes, removed by the last one that goes."""
    engine = require_engine()
    require_image(engine)
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid():08x}"
    made = Images(engine, *(f"fnbuild-test-dashboard-{run[:8]}:{one}" for one in ("1", "2")))
    lock = Path(tempfile.gettempdir(), f"fnbuild-test-dashboard-{run[:8]}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for image, target in ((made.plain, "dashboard"), (made.docker, "docker")):
            if engine.inspect(image) is None:
                arguments = ("--target", target)
                request = BuildRequest(
                    ROOT, _FILE, (image,), {"BASE": PYTHON_IMAGE}, flags=arguments
                )
                engine.build(request, lambda _: None)
        fcntl.flock(file, fcntl.LOCK_SH)
        yield made
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        call(engine, "rmi", "--force", made.docker, made.plain)
        lock.unlink(missing_ok=True)  # who came while it was removed has made them anew


@pytest.fixture
def resources(images: Images) -> Iterator[EngineResources]:
    """Unique names in that engine; their objects are removed after the test."""
    names = EngineResources(images.engine)
    yield names
    names.remove()


def said(container: str) -> str:
    """What a container has written."""
    result = subprocess.run(
        ["docker", "logs", container], capture_output=True, text=True, check=True
    )
    return result.stdout + result.stderr


def until_healthy(engine: Engine, container: str) -> None:
    """Wait for the container's own health check, or fail with what it has written."""

    def healthy() -> bool:
        words = call(engine, "inspect", "--format", "{{json .State}}", container)
        state = json.loads(words)
        assert state["Running"], said(container)
        return bool(state["Health"]["Status"] == "healthy")

    until(f"the health of {container}", healthy)
