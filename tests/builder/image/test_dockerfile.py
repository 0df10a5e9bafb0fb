"""The Dockerfile of every function in the repository, line by line.

`FNBUILD_WRITE_GOLDEN=1 pytest tests/builder/image/test_dockerfile.py` writes the files again;
review the changes with `git diff`.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fnbuild.builder.image.dockerfile import full_dockerfile, pre_copy_dockerfile
from fnbuild.builder.image.dockerfile_parser import parse_dockerfile
from fnbuild.builder.image.probe import ImagePython
from fnbuild.builder.image.recipe import Recipe, create_recipe
from fnbuild.function.reader import load_function

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
GOLDEN = HERE / "golden"
WRITE = "FNBUILD_WRITE_GOLDEN"

# Its tab is an error; the repaired file is `alphapose`.
BROKEN = ("alphapose-tab",)


def _sources() -> dict[str, Path]:
    paths = {path.stem: path for path in (HERE / "features").glob("*.yaml")}
    data = ROOT / "tests/data/functions"
    paths |= {path.stem: path for path in data.glob("*.yaml") if path.stem not in BROKEN}
    for path in (ROOT / "functions").glob("*/*/function.yaml"):
        paths[f"{path.parent.parent.name}-{path.parent.name}"] = path
    return dict(sorted(paths.items()))


SOURCES = _sources()


def recipe(name: str, **options: object) -> Recipe:
    function = load_function(SOURCES[name]).function
    base = function.spec.build.base_image or "python:3.9"
    return create_recipe(function, base, **options)  # type: ignore[arg-type]


def python(name: str) -> ImagePython:
    """Return the handler's Python: the one that the function names, or the default."""
    variables = {
        variable.name: variable.value for variable in load_function(SOURCES[name]).function.spec.env
    }
    path = variables.get("NUCLIO_PYTHON_EXE_PATH", "/usr/local/bin/python3")
    return ImagePython(path, (3, 11, 0), "cpython")


def check(file: str, text: str) -> None:
    path = GOLDEN / file
    if os.environ.get(WRITE):
        path.write_text(text)
    assert path.is_file(), f"there is no {path.name}; {WRITE}=1 writes it"
    assert path.read_text() == text


@pytest.mark.parametrize("name", SOURCES)
def test_the_dockerfile(name: str) -> None:
    dockerfile = full_dockerfile(recipe(name), python(name))
    check(f"{name}.Dockerfile", dockerfile.text)
    assert len(parse_dockerfile(dockerfile.text)) == len(dockerfile.instructions)


@pytest.mark.parametrize("name", SOURCES)
def test_the_dockerfile_with_heredocs(name: str) -> None:
    dockerfile = full_dockerfile(recipe(name, heredocs=True), python(name))
    other = full_dockerfile(recipe(name), python(name))
    file = GOLDEN / f"{name}.heredocs.Dockerfile"
    if dockerfile.text == other.text:
        assert not file.exists()
    else:
        check(file.name, dockerfile.text)
    assert len(parse_dockerfile(dockerfile.text)) == len(dockerfile.instructions)


def test_large_files_and_requirements_precede_the_code() -> None:
    recipe_ = replace(recipe("alphapose"), requirements="requirements.txt", large=True)
    check("everything.Dockerfile", full_dockerfile(recipe_, python("alphapose")).text)


@pytest.mark.parametrize("name", SOURCES)
def test_the_part_before_the_code_begins_the_dockerfile(name: str) -> None:
    recipe_ = recipe(name)
    first, all_of_it = (
        pre_copy_dockerfile(recipe_).instructions,
        full_dockerfile(recipe_, python(name)).instructions,
    )
    assert all_of_it[: len(first)] == first


def test_no_golden_file_of_a_removed_function_is_left() -> None:
    names = {path.name.split(".")[0] for path in GOLDEN.iterdir()}
    assert names == {*SOURCES, "everything"}
