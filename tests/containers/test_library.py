"""Every function of the library is built and replies in a container, as its users run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers import bases
from tests.containers.conftest import PROGRAM, User
from tests.functions import library

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def deployed(module_user: User, tmp_path_factory: pytest.TempPathFactory) -> library.Deployed:
    return deploy_library(module_user, tmp_path_factory.mktemp("library"), "local")


def deploy_library(user: User, folder: Path, platform: str) -> library.Deployed:
    """Deploy all functions by one command, on an image that has their requirements."""
    base = bases.with_library(library.FOR_CVAT)
    top = library.copy_library(
        folder, "/opt/nuclio", baseImage=lambda _: base, image=user.resources.image
    )
    arguments = ("deploy", "--recursive", "--path", top, "--platform", platform, "-o", "json")
    result = user.run(PROGRAM, *arguments, "--concurrency", "3", timeout=1200)
    return library.read_results(result.stdout, result.stderr)


@pytest.mark.parametrize("folder", library.FOR_CVAT, ids=lambda folder: folder.name)
def test_library_functions_answer_in_a_container(
    folder: Path, deployed: library.Deployed, photo: library.Photo
) -> None:
    library.check(folder, deployed.url(folder.name), photo)
