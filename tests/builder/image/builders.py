"""Docker's two builders, and images of functions that they build."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fnbuild.builder.image import context
from fnbuild.builder.image.context import BuildContext
from fnbuild.builder.image.dockerfile import DOCKERFILE_NAME, RUNTIME_ARCHIVE, full_dockerfile
from fnbuild.builder.image.engine import BuildRequest
from fnbuild.builder.image.engines.docker import Docker
from fnbuild.builder.image.probe import UNPROBED_IMAGE, ProbedImage
from fnbuild.builder.image.recipe import create_recipe
from fnbuild.builder.processor_settings import processor_settings
from fnbuild.builder.staging import stage
from fnbuild.function.reader import load_function
from tests import locks
from tests.engine import EngineResources, engine_resources, require_engine, require_image

FOUNDATION = "fnbuild/test-base:debian"


def docker_of(builder: str) -> Docker:
    """Return the first docker on PATH with this builder, or skip the test."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, "docker")
        if os.access(path, os.X_OK):
            docker = Docker(path)
            if builder == "classic" or docker.supports_buildkit:
                return docker
    pytest.skip(f"no docker here builds with {builder}")


@pytest.fixture(params=["classic", "buildkit"])
def resources(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EngineResources]:
    """Return names in the engine, once for each builder."""
    require_engine("docker")
    monkeypatch.setenv("DOCKER_BUILDKIT", "0" if request.param == "classic" else "1")
    engine = docker_of(request.param)
    require_image(engine, FOUNDATION)
    with exclusive(request.param), engine_resources(engine) as resources:
        yield resources


@contextmanager
def exclusive(builder: str) -> Iterator[None]:
    """Serialize builds with BuildKit: old versions crash the engine if equal builds run at once."""
    if builder == "classic":
        yield
        return
    with locks.exclusive("buildkit"):
        yield


def build(
    resources: EngineResources,
    source: Path,
    *,
    no_cache: bool = False,
    runtime: bool = True,
    probed: ProbedImage = UNPROBED_IMAGE,
) -> str:
    """Build the image of the function in a folder; with `runtime` False, without fnbuild's."""
    loaded = load_function(source)
    number = len(resources.images)
    place = source.parent / f"{source.name}-context-{number}"
    place.mkdir()
    code = source.parent / f"{source.name}-code-{number}"
    stage(loaded, code)
    laid = BuildContext(place, loaded.function, code)
    laid.write_archives(processor_settings(loaded.function), probed)
    if not runtime:
        context.write_archive(place / RUNTIME_ARCHIVE, [("/runtime", b"")])
    settings = loaded.function.spec.build
    recipe = create_recipe(
        loaded.function,
        settings.base_image,
        heredocs=resources.engine.supports_heredocs,
        large=laid.has_large_files,
    )
    file = place / DOCKERFILE_NAME
    first, _, rest_of_file = full_dockerfile(recipe, UNPROBED_IMAGE.python).text.partition("\n")
    file.write_text(f"{first}\n{resources.label}\n{rest_of_file}")
    reference = resources.image(f"built-{number}")
    arguments = {key: value for key, value in settings.args.items() if value}
    request = BuildRequest(place, file, (reference,), arguments, no_cache=no_cache)
    resources.engine.build(request, lambda _: None)
    return reference
