"""Docker's two builders, and images of whole functions made with them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fnbuild.build.image import archives
from fnbuild.build.image.context import Context
from fnbuild.build.image.dockerfile import NAME, RUNTIME, whole
from fnbuild.build.image.engine import BuildRequest
from fnbuild.build.image.engines.docker import Docker
from fnbuild.build.image.pythons import USUAL, Pythons
from fnbuild.build.image.recipe import recipe_of
from fnbuild.build.processor import settings
from fnbuild.build.staging import stage
from fnbuild.spec.reader import load
from tests.engine import Made, making, require_engine, require_image

FOUNDATION = "fnbuild/test-base:debian"


def docker_of(builder: str) -> Docker:
    """The first docker on PATH that builds in this way, or the test is skipped."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, "docker")
        if os.access(path, os.X_OK):
            found = Docker(path)
            if builder == "classic" or found.has_buildkit:
                return found
    pytest.skip(f"no docker here builds with {builder}")


@pytest.fixture(params=["classic", "buildkit"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Names in the engine, as each of its two builders."""
    require_engine("docker")
    monkeypatch.setenv("DOCKER_BUILDKIT", "0" if request.param == "classic" else "1")
    engine = docker_of(request.param)
    require_image(engine, FOUNDATION)
    with alone(request.param), making(engine) as made:
        yield made


@contextmanager
def alone(builder: str) -> Iterator[None]:
    """Old BuildKits bring the whole engine down when they build the same thing twice at once."""
    if builder == "classic":
        yield
        return
    with open(Path(tempfile.gettempdir(), "fnbuild-test-buildkit.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(
    made: Made,
    source: Path,
    *,
    no_cache: bool = False,
    runtime: bool = True,
    pythons: Pythons = USUAL,
) -> str:
    """The image of the function in a folder; `runtime` is fnbuild's, else a file in its place."""
    loaded = load(source)
    number = len(made.images)
    place = source.parent / f"{source.name}-context-{number}"
    place.mkdir()
    code = source.parent / f"{source.name}-code-{number}"
    stage(loaded, code)
    laid = Context(place, loaded.function, code)
    laid.fill(settings(loaded.function), pythons)
    if not runtime:
        archives.write(place / RUNTIME, [("/runtime", b"")])
    given = loaded.function.spec.build
    recipe = recipe_of(
        loaded.function, given.base_image, heredocs=made.engine.heredocs, large=laid.large
    )
    file = place / NAME
    first, _, rest = whole(recipe, USUAL.handler).text.partition("\n")
    file.write_text(f"{first}\n{made.label}\n{rest}")
    reference = made.image(f"built-{number}")
    arguments = {key: value for key, value in given.args.items() if value}
    request = BuildRequest(place, file, (reference,), arguments, no_cache=no_cache)
    made.engine.build(request, lambda _: None)
    return reference
