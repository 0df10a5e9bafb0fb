"""Every entry of the function library is whole: what a reader of the folder expects is there."""

import json
import re
from pathlib import Path

import pytest

from fnbuild.spec import labels
from fnbuild.spec.reader import load

LIBRARY = Path(__file__).resolve().parents[2] / "functions"
FOLDERS = sorted(path.parent for path in LIBRARY.rglob("function.yaml"))


def test_the_library_is_not_empty():
    assert len(FOLDERS) >= 2


def test_names_are_unique():
    names = [load(folder).function.metadata.name for folder in FOLDERS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_function_is_whole(folder):
    loaded = load(folder)
    assert [str(finding) for finding in loaded.report] == []
    function = loaded.function
    assert function.metadata.name == folder.name
    assert function.spec.description
    assert function.spec.event_timeout
    assert function.spec.build.base_image
    annotations = function.metadata.annotations
    assert labels.kind_of(function)
    assert annotations["name"]
    if annotations["type"] == "detector":
        assert len(labels.of(function)) == len(json.loads(annotations["spec"])) > 0
    readme = (folder / "README.md").read_text()
    assert f"fnbuild invoke {folder.name} " in readme
    assert f"fnbuild deploy --path {folder.relative_to(LIBRARY.parent)}" in readme
    # pip must find wheels, now and in years: every package has a lower and an upper bound, or is
    # pinned.
    for directive in function.spec.build.directives.pre_copy:
        if directive.value.startswith("pip install"):
            packages = re.findall(r"'([^']+)'", directive.value)
            assert packages
            assert all("==" in each or (">=" in each and "<" in each) for each in packages)
