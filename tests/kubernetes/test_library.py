"""All functions of the library are built, run on the cluster and respond at their node ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers import bases
from tests.containers.conftest import PROGRAM
from tests.functions import library
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def deployed(user: OnCluster, tmp_path_factory: pytest.TempPathFactory) -> library.Deployed:
    """All functions, deployed by one command on an image that has their requirements.

    Nothing is pushed: a push of torch would take too long, and the node has the engine's images.
    """
    base = bases.with_library(library.FOR_CVAT)
    top = library.copy_library(
        tmp_path_factory.mktemp("library"),
        "/opt/nuclio",
        baseImage=lambda _: base,
        image=user.resources.image,
    )
    arguments = ("deploy", "--recursive", "--path", top, "--platform", "kube", "-o", "json")
    result = user.run(PROGRAM, *arguments, "--concurrency", "3", timeout=1200)
    return library.read_results(result.stdout, result.stderr)


@pytest.mark.parametrize("folder", library.FOR_CVAT, ids=lambda folder: folder.name)
def test_library_functions_answer_on_their_node_port(
    folder: Path, user: OnCluster, deployed: library.Deployed, photo: library.Photo
) -> None:
    url = deployed.url(folder.name)
    library.check(folder, url, photo)
    function = user.describe(folder.name)
    assert function["status"]["state"] == "ready"
    assert url.endswith(f":{function['status']['httpPort']}")
