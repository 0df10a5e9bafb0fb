"""Every function of the library is built and replies in a container, as its users run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.function.reader import load_function
from tests.containers import library
from tests.containers.conftest import User
from tests.functions.test_library import FOR_CVAT

pytestmark = pytest.mark.system


@pytest.mark.parametrize("folder", FOR_CVAT, ids=lambda folder: folder.name)
def test_library_functions_answer_in_a_container(
    folder: Path, user: User, photo: library.Photo, tmp_path: Path
) -> None:
    name = folder.name
    base = library.CASES[name].base(load_function(folder).function)
    url = user.deploy(
        *library.source_options(folder, tmp_path / folder.name),
        *("--base-image", base),
        *("--image", user.resources.image(name)),
    )
    library.check(folder, url, photo)
    assert user.describe(name)["status"]["state"] == "ready"
