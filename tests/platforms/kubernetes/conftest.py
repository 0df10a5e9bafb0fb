"""Fixtures: a namespace for each test in the current cluster, and the platform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.cli.app import run
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubernetes import KubernetesPlatform
from tests.cluster import function_image, own_namespace
from tests.engine import discard_images
from tests.platforms.kubernetes.author import Author, Commands


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with own_namespace(cluster) as name:
        yield name


@pytest.fixture
def platform(namespace: str, shared_layers: None, data: Path) -> Iterator[KubernetesPlatform]:
    yield KubernetesPlatform()
    discard_images(namespace)


FAULTY = """\
import os, signal, sys, time

FAULT = os.environ.get("FAULT", "")
if FAULT == "import":
    import no_such_library
if FAULT == "no-gpu" and os.environ.get("CUDA_VISIBLE_DEVICES") == "":
    raise RuntimeError("No CUDA GPUs are available")

def init_context(context):
    print("loading", os.environ.get("WORD", "hello"))
    if FAULT == "raise":
        raise ValueError("the weights are missing")
    if FAULT == "memory":
        context.user_data.model = bytearray(400 << 20)
    if FAULT == "hang":
        time.sleep(3600)

def handler(context, event):
    if event.path == "/end":
        print("the last words")
        os.kill(1, signal.SIGTERM)
    return os.environ.get("WORD", "hello")
"""


@pytest.fixture(scope="session")
def image(
    shared_layers: None, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The image of a function that answers with the variable WORD and fails as FAULT says."""
    with function_image(tmp_path_factory.mktemp("image"), FAULTY) as name:
        yield name


@pytest.fixture
def platform_name() -> str:
    return "kube"


@pytest.fixture
def author(tmp_path: Path, platform: KubernetesPlatform, namespace: str) -> Author:
    return Author(tmp_path, platform, namespace)


@pytest.fixture
def fnbuild(
    author: Author, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Commands:
    """Run a command line in this process, on the cluster and in the namespace of the test."""
    monkeypatch.setenv("FNBUILD_PLATFORM", "kube")

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*arguments, "-n", author.namespace])
        output = capsys.readouterr()
        return status, output.out, output.err

    return call
