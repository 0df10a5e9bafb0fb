"""All functions of the library are built, run on the cluster and respond at their node ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.function.reader import load_function
from tests.containers import library
from tests.engine import PYTHON_IMAGE
from tests.functions.test_library import FOR_CVAT
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system


@pytest.mark.parametrize("folder", FOR_CVAT, ids=lambda folder: folder.name)
def test_library_functions_answer_on_their_node_port(
    folder: Path,
    user: OnCluster,
    registry: str,
    photo: library.Photo,
    tmp_path: Path,
) -> None:
    name = folder.name
    base = library.CASES[name].base(load_function(folder).function)
    # A push of torch would take too long, and the node has the images of the engine.
    pushed = () if base != PYTHON_IMAGE else ("--registry", registry)
    url = user.deploy(
        *library.source_options(folder, tmp_path / name),
        *("--base-image", base),
        *("--image", user.resources.image(name), *pushed),
    )
    library.check(folder, url, photo)
    function = user.describe(name)
    assert function["status"]["state"] == "ready"
    assert url.endswith(f":{function['status']['httpPort']}")
