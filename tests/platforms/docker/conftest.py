"""A separate namespace for each test on the available engine, which is emptied after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.docker import DockerPlatform
from tests.engine import EngineResources, engine_resources, require_engine
from tests.platforms.docker.author import Author


@pytest.fixture
def resources(shared_layers: None) -> Iterator[EngineResources]:
    with engine_resources(require_engine()) as names:
        yield names


@pytest.fixture
def namespace(resources: EngineResources) -> str:
    return resources.name("ns")


@pytest.fixture
def platform(resources: EngineResources, data: Path) -> Iterator[DockerPlatform]:
    """The platform; everything in the namespace is removed with the resources."""
    platform = DockerPlatform()
    yield platform
    platform.engine.close()


@pytest.fixture
def platform_name() -> str:
    return "local"


@pytest.fixture
def author(
    tmp_path: Path, platform: DockerPlatform, namespace: str, resources: EngineResources
) -> Author:
    return Author(tmp_path, platform, namespace, resources)
