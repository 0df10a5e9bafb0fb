"""Fixtures for several platforms: data directories, images, the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.builder import sdk
from fnbuild.datadir import make_private_dir
from fnbuild.deploy import artifacts
from fnbuild.function import reader
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import function_image, own_namespace, require_cluster
from tests.engine import engine_resources, require_engine, require_image
from tests.fetched import copy_fetched
from tests.platforms.folders import config


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The current cluster."""
    return require_cluster()


@pytest.fixture
def cluster_namespace(cluster: Cluster) -> Iterator[str]:
    """A separate namespace for the test."""
    with own_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="session")
def greeter_image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of a function that answers `hello`; the node has it without a push."""
    with function_image(tmp_path_factory.mktemp("greeter")) as image:
        yield image


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The downloaded part of a data directory."""
    folder = tmp_path_factory.mktemp("fetched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(folder))
        sdk.ensure_sdk((3, 11, 0))
    return folder / "sdk"


@pytest.fixture
def data(tmp_path: Path, fetched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory that no other test uses."""
    folder = make_private_dir(tmp_path / "data")
    copy_fetched(fetched, folder)
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_layers(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep an image with the layers that all functions have in common for the whole test run.

    Otherwise the removal of the last image with such a layer would break concurrent builds on it.
    """
    engine = require_engine()
    require_image(engine)
    folder = tmp_path_factory.mktemp("shared")
    with engine_resources(engine) as names, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(fetched.parent))
        image = names.image("shared", tag="latest")
        (folder / "function.yaml").write_text(config("shared", image.partition(":")[0]))
        (folder / "main.py").write_text("def handler(context, event):\n    return 1\n")
        artifacts.build_image(reader.load_function(folder), engine, lambda _: None)
        yield
