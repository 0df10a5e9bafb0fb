"""Every entry of the function library is complete."""

import base64
import io
import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from fnbuild.function import labels
from fnbuild.function.reader import load_function
from fnbuild.runtime.http.client import request
from tests.functions import library
from tests.functions.library import FOLDERS, FOR_CVAT

LIBRARY = library.ROOT / "functions"
# A function's own lines on the bases of fnbuild.vision.
MOST_LINES = 40


def test_the_library_is_not_empty():
    assert len(FOLDERS) >= 2


def test_the_table_in_docs_is_current():
    command = [sys.executable, library.ROOT / "scripts/library", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_are_unique():
    names = [load_function(folder).function.metadata.name for folder in FOLDERS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_function_is_complete(folder):
    loaded = load_function(folder)
    assert [str(finding) for finding in loaded.report] == []
    function = loaded.function
    assert function.metadata.name == folder.name
    assert function.spec.description
    assert function.spec.event_timeout
    assert function.spec.build.base_image
    annotations = function.metadata.annotations
    assert annotations["name"]
    if folder in FOR_CVAT:
        assert labels.function_kind(function)
    if annotations.get("type") == "detector":
        assert len(labels.function_labels(function)) == len(json.loads(annotations["spec"])) > 0
    readme = (folder / "README.md").read_text()
    assert f"fnbuild invoke {folder.name} " in readme
    assert f"fnbuild deploy --path {folder.relative_to(LIBRARY.parent)}" in readme
    if folder in FOR_CVAT:
        assert len(readme.split("## Model card")[1]) > 100
        assert (folder / "example.jpg").stat().st_size < 100_000
        assert "(example.jpg)" in readme
    # pip must find wheels in the future, too: every package has a lower and an upper bound, or is
    # pinned.
    for directive in function.spec.build.directives.pre_copy:
        if directive.value.startswith("pip install"):
            packages = re.findall(r"'([^']+)'", directive.value)
            assert packages
            assert all("==" in each or (">=" in each and "<" in each) for each in packages)


def test_functions_on_the_bases_are_short():
    for folder in FOLDERS:
        code = (folder / "main.py").read_text()
        if "vision.export(" in code:
            own = [line for line in code.splitlines() if line.strip()]
            assert len(own) <= MOST_LINES, folder


@pytest.mark.parametrize("folder", FOR_CVAT, ids=lambda folder: folder.name)
@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_a_function_has_variants(folder, variant):
    loaded = load_function(folder, variant=variant)
    assert [str(finding) for finding in loaded.report] == []
    missing = packages_of(load_function(folder)) - packages_of(loaded)
    assert missing <= {"onnxruntime"}


def packages_of(loaded):
    lines = [directive.value for directive in loaded.function.spec.build.directives.pre_copy]
    return set(re.findall(r"'([\w-]+)", " ".join(line for line in lines if "pip install" in line)))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """All functions for CVAT, deployed by one command on the tests' interpreter."""
    home = tmp_path_factory.mktemp("library")
    variables = {**os.environ, "FNBUILD_DATA_DIR": str(home / "data")}

    def fnbuild(*arguments):
        command = [sys.executable, "-m", "fnbuild", *map(str, arguments)]
        return subprocess.run(
            command, env=variables, cwd=library.ROOT, capture_output=True, text=True, check=False
        )

    python = ("--env", f"NUCLIO_PYTHON_EXE_PATH={sys.executable}")
    packages = ("--env", f"PYTHONPATH={library.packages()}")
    flags = ("--recursive", "--concurrency", 3, "-o", "json", *python, *packages)
    # The interpreter has the requirements: to install them again takes minutes.
    top = library.copy_library(home, directives=lambda _: {})
    done = fnbuild("deploy", "--path", top, *flags)
    yield library.read_results(done.stdout, done.stderr)
    fnbuild("down")


@pytest.mark.system
@pytest.mark.parametrize("folder", FOR_CVAT, ids=lambda folder: folder.name)
def test_library_functions_answer_in_a_process(deployed, huge_image, folder, photo):
    url = deployed.url(folder.name)
    library.check(folder, url, photo)
    images = dict.fromkeys(("image", "image0", "image1"), huge_image)
    keys = ("boxes0", "boxes1", "shapes", "states", "neg_points", "obj_bbox")
    lists: dict[str, list[object]] = {key: [] for key in keys}
    body = json.dumps({**images, **lists, "pos_points": [[1, 1]]}).encode()
    answer = request("POST", url, "/", body, {"Content-Type": "application/json"})
    assert answer.status == 413
    assert "13376 x 13376" in json.loads(answer.body)["error"]


def test_states_above_the_pixel_limit_are_refused(handler, huge_image):
    frame = io.BytesIO()
    Image.new("L", (40, 40)).save(frame, "PNG")
    state = {"type": "rectangle", "points": [1, 1, 9, 9], "area": [0, 0, 20, 20]}
    body = {
        "image": base64.b64encode(frame.getvalue()).decode(),
        "shapes": [None],
        "states": [{**state, "patch": huge_image}],
    }
    status, content = handler(LIBRARY / "opencv" / "optical-flow")(body)
    assert status == 400
    assert "not one of this tracker's" in content["error"]
