"""All functions of the library are built, run on the cluster and respond at their node ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.test_library import deploy_library
from tests.functions import library
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def deployed(user: OnCluster, tmp_path_factory: pytest.TempPathFactory) -> library.Deployed:
    # Nothing is pushed: the node has the engine's images, and a push of torch takes long.
    return deploy_library(user, tmp_path_factory.mktemp("library"), "kube")


@pytest.mark.parametrize("folder", library.FOR_CVAT, ids=lambda folder: folder.name)
def test_library_functions_answer_on_their_node_port(
    folder: Path, user: OnCluster, deployed: library.Deployed, photo: library.Photo
) -> None:
    url = deployed.url(folder.name)
    library.check(folder, url, photo)
    function = user.describe(folder.name)
    assert function["status"]["state"] == "ready"
    assert url.endswith(f":{function['status']['httpPort']}")
