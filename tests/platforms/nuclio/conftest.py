"""A Nuclio for each test, which nobody else uses: one on this machine with its dashboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild import artifacts
from fnbuild.build import sdk
from fnbuild.datadir import make_private
from fnbuild.platforms.nuclio import NuclioPlatform, connect
from fnbuild.spec import reader
from tests.engine import Made, making, require_engine, require_image
from tests.platforms.nuclio.dashboard import Nuclio, serve

CONFIG = """\
metadata:
  name: shared
spec:
  handler: main:handler
  runtime: python:3.11
  build:
    image: {image}
    noBaseImagesPull: true
"""


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
def image(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of a function that lasts as long as the tests, as do the layers that it shares with
    those of others.
    """
    engine = require_engine()
    require_image(engine)
    folder = tmp_path_factory.mktemp("shared")
    with making(engine) as names, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(fetched.parent))
        reference = names.image("shared", tag="latest")
        (folder / "function.yaml").write_text(CONFIG.format(image=reference.partition(":")[0]))
        (folder / "main.py").write_text("def handler(context, event):\n    return 'shared'\n")
        artifacts.build(reader.load(folder), engine, lambda _: None)
        yield reference


@pytest.fixture
def made(image: str) -> Iterator[Made]:
    with making(require_engine()) as names:
        yield names


@pytest.fixture
def namespace(made: Made) -> str:
    return made.name("ns")


@pytest.fixture
def nuclio(tmp_path: Path, namespace: str) -> Iterator[Nuclio]:
    """A dashboard with its default project, in the environment."""
    nuclio = Nuclio(tmp_path / "nuclio")
    nuclio.create_project({"metadata": {"name": "default", "namespace": namespace}})
    server = serve(nuclio)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FNBUILD_NUCLIO_URL", f"http://127.0.0.1:{server.server_address[1]}")
            yield nuclio
    finally:
        server.shutdown()
        server.server_close()
        nuclio.end()
    assert nuclio.broken == []


@pytest.fixture
def platform(nuclio: Nuclio, data: Path) -> NuclioPlatform:
    return connect()


@pytest.fixture
def platform_name() -> str:
    return "nuclio"
