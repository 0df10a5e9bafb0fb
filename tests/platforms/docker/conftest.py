"""A namespace of its own for each test on the engine that is there, empty again afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild import artifacts
from fnbuild.build import sdk
from fnbuild.datadir import make_private
from fnbuild.platforms.docker import DockerPlatform, connect, inventory
from fnbuild.spec import reader
from tests.engine import Made, call, making, require_engine, require_image
from tests.platforms.docker.author import Author, config


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of a data directory that is fetched from elsewhere."""
    place = tmp_path_factory.mktemp("fetched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(place))
        sdk.ensure_for((3, 11, 0))
    return place / "sdk"


@pytest.fixture
def data(tmp_path: Path, fetched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory that no other test uses."""
    place = make_private(tmp_path / "data")
    shutil.copytree(fetched, place / "sdk")
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(place))
    return place


@pytest.fixture(scope="session")
def shared_layers(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An image that lasts as long as the tests, with the layers that all functions have in common:
    who removes the last image on a layer takes it from those that are just being built on it.
    """
    engine = require_engine()
    require_image(engine)
    folder = tmp_path_factory.mktemp("shared")
    with making(engine) as names, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(fetched.parent))
        image = names.image("shared", tag="latest")
        (folder / "function.yaml").write_text(config("shared", image.partition(":")[0]))
        (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
        artifacts.build(reader.load(folder), engine, lambda _: None)
        yield


@pytest.fixture
def made(shared_layers: None) -> Iterator[Made]:
    with making(require_engine()) as names:
        yield names


@pytest.fixture
def namespace(made: Made) -> str:
    return made.name("ns")


@pytest.fixture
def platform(made: Made, namespace: str, data: Path) -> Iterator[DockerPlatform]:
    platform = connect()
    try:
        yield platform
    finally:
        for known in inventory.functions(platform.engine, namespace):
            if not known.foreign:
                platform.delete(namespace, known.key.name, image=True)
        platform.engine.close()
        for container in call(
            made.engine, "ps", "--all", "--quiet", "--filter", f"name={namespace}"
        ).split():
            call(made.engine, "rm", "--force", "--volumes", container)
        mine = f"reference=*{made.token}*"
        kept = f"reference=fnbuild-revisions:{namespace}.*"
        for one in (mine, kept):
            listed = call(
                made.engine, "images", "--filter", one, "--format", "{{.Repository}}:{{.Tag}}"
            )
            for image in listed.split():
                call(made.engine, "rmi", "--force", image)


@pytest.fixture
def platform_name() -> str:
    return "local"


@pytest.fixture
def author(tmp_path: Path, platform: DockerPlatform, namespace: str, made: Made) -> Author:
    return Author(tmp_path, platform, namespace, made)
