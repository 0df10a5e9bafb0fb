"""Every entry of the function library is complete."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fnbuild.function import labels
from fnbuild.function.reader import load_function

LIBRARY = Path(__file__).resolve().parents[2] / "functions"
FOLDERS = sorted(path.parent for path in LIBRARY.rglob("function.yaml"))
# The others serve models over the inference protocols only.
FOR_CVAT = [folder for folder in FOLDERS if "type:" in (folder / "function.yaml").read_text()]


def test_the_library_is_not_empty():
    assert len(FOLDERS) >= 2


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
    # pip must find wheels in the future, too: every package has a lower and an upper bound, or is
    # pinned.
    for directive in function.spec.build.directives.pre_copy:
        if directive.value.startswith("pip install"):
            packages = re.findall(r"'([^']+)'", directive.value)
            assert packages
            assert all("==" in each or (">=" in each and "<" in each) for each in packages)


@pytest.mark.parametrize("folder", FOR_CVAT, ids=lambda folder: folder.name)
def test_images_above_the_pixel_limit_are_refused(
    handler, huge_image, folder, mobilenet_weights, monkeypatch
):
    monkeypatch.setenv("STORAGE_URI", str(mobilenet_weights))
    status, content = handler(folder)({"image": huge_image})
    assert status == 413
    assert "13376 x 13376" in content["error"]


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
