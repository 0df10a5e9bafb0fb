"""The image of the dashboard, built once for all tests of a run."""

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
from tests.containers import bases
from tests.engine import PYTHON_IMAGE, EngineResources, call, require_engine, require_image, until

CONFIG = ROOT / "dashboard-config"
_FILE = CONFIG / "image" / "Dockerfile"


@dataclass(frozen=True)
class Images:
    """Images: `command` is the command line, `plain` a dashboard for clusters, `docker` one with an
    engine's client.
    """

    engine: Engine
    command: str
    plain: str
    docker: str


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    """Build the images in the first test process, and remove them in the last one."""
    engine = require_engine()
    require_image(engine)
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid():08x}"
    built = Images(engine, *(f"fnbuild-test-dashboard-{run[:8]}:{tag}" for tag in ("0", "1", "2")))
    lock = Path(tempfile.gettempdir(), f"fnbuild-test-dashboard-{run[:8]}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _keep_dependencies()
        targets = {"command": built.command, "dashboard": built.plain, "docker": built.docker}
        for target, image in targets.items():
            if engine.inspect(image) is None:
                arguments = ("--target", target)
                request = BuildRequest(
                    ROOT, _FILE, (image,), {"BASE": PYTHON_IMAGE}, flags=arguments
                )
                engine.build(request, lambda _: None)
        fcntl.flock(file, fcntl.LOCK_SH)
        yield built
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        call(engine, "rmi", "--force", *reversed(targets.values()))
        lock.unlink(missing_ok=True)  # a process that started meanwhile builds them again


def _keep_dependencies() -> None:
    """Build the steps before the code, which the engine then keeps for later runs."""
    before, _, _ = _FILE.read_text().partition("COPY function-specs ")
    lines = before.partition("FROM ${BASE} AS command\n")[2]
    assert "pip install" in lines
    files = {"pyproject.toml": (ROOT / "pyproject.toml").read_text()}
    bases.with_lines("dashboard", PYTHON_IMAGE, lines, files)


@pytest.fixture
def resources(images: Images) -> Iterator[EngineResources]:
    """Unique names in that engine; their objects are removed after the test."""
    names = EngineResources(images.engine)
    yield names
    names.remove()


def log_of(container: str) -> str:
    """Return the output of a container."""
    result = subprocess.run(
        ["docker", "logs", container], capture_output=True, text=True, check=True
    )
    return result.stdout + result.stderr


def until_healthy(engine: Engine, container: str) -> None:
    """Wait until the container's health check succeeds, or fail with its output."""

    def healthy() -> bool:
        state = json.loads(call(engine, "inspect", "--format", "{{json .State}}", container))
        assert state["Running"], log_of(container)
        return bool(state["Health"]["Status"] == "healthy")

    until(f"the health of {container}", healthy)
