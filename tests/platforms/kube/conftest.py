"""A namespace of its own for each test on the cluster that is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild import artifacts
from fnbuild.build import sdk
from fnbuild.datadir import make_private
from fnbuild.platforms.cluster.api import Cluster
from fnbuild.platforms.kube import KubePlatform, connect
from fnbuild.spec import reader
from tests.cluster import function_image, own_namespace, require_cluster
from tests.engine import call, making, require_engine, require_image
from tests.platforms.kube.author import Author, config


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


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return require_cluster()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with own_namespace(cluster) as name:
        yield name


@pytest.fixture
def platform(namespace: str, shared_layers: None, data: Path) -> Iterator[KubePlatform]:
    engine = require_engine()
    try:
        yield connect()
    finally:
        ours = f"reference={namespace}*"
        listed = call(
            engine, "images", "--filter", ours, "--format", "{{.Repository}}:{{.Tag}}"
        ).split()
        # Containers of pods that are still ending have theirs as long as they need it.
        for image in listed:
            call(engine, "rmi", "--force", image)


FAULTY = """\
import os, sys, time

FAULT = os.environ.get("FAULT", "")

def init_context(context):
    if FAULT == "raise":
        raise ValueError("the weights are missing")
    if FAULT == "memory":
        context.user_data.model = bytearray(400 << 20)
    if FAULT == "hang":
        time.sleep(3600)

def handler(context, event):
    return os.environ.get("WORD", "hello")
"""


@pytest.fixture(scope="session")
def image(
    shared_layers: None, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The image of a function that answers with WORD and fails as FAULT says, both of its
    environment.
    """
    with function_image(tmp_path_factory.mktemp("image"), FAULTY) as name:
        yield name


@pytest.fixture
def platform_name() -> str:
    return "kube"


@pytest.fixture
def author(tmp_path: Path, platform: KubePlatform, namespace: str) -> Author:
    return Author(tmp_path, platform, namespace)
