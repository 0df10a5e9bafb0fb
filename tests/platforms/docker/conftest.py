"""A separate namespace for each test on the available engine, which is emptied after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms.docker import DockerPlatform, inventory
from tests.engine import EngineResources, call, engine_resources, require_engine
from tests.platforms.docker.author import Author


@pytest.fixture
def resources(shared_layers: None) -> Iterator[EngineResources]:
    with engine_resources(require_engine()) as names:
        yield names


@pytest.fixture
def namespace(resources: EngineResources) -> str:
    return resources.name("ns")


@pytest.fixture
def platform(resources: EngineResources, namespace: str, data: Path) -> Iterator[DockerPlatform]:
    platform = DockerPlatform()
    try:
        yield platform
    finally:
        for objects in inventory.list_functions(platform.engine, namespace):
            if not objects.is_deployed_by_nuclio:
                platform.delete(namespace, objects.key.name, image=True)
        platform.engine.close()
        for container in call(
            resources.engine, "ps", "--all", "--quiet", "--filter", f"name={namespace}"
        ).split():
            call(resources.engine, "rm", "--force", "--volumes", container)
        image_filter = f"reference=*{resources.token}*"
        revision_filter = f"reference=fnbuild-revisions:{namespace}.*"
        for reference_filter in (image_filter, revision_filter):
            images = call(
                resources.engine,
                "images",
                "--filter",
                reference_filter,
                "--format",
                "{{.Repository}}:{{.Tag}}",
            )
            for image in images.split():
                call(resources.engine, "rmi", "--force", image)


@pytest.fixture
def platform_name() -> str:
    return "local"


@pytest.fixture
def author(
    tmp_path: Path, platform: DockerPlatform, namespace: str, resources: EngineResources
) -> Author:
    return Author(tmp_path, platform, namespace, resources)
