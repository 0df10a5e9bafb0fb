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

# Its tab is an error, and mended it is `alphapose`.
BROKEN = ("alphapose-tab",)


def _sources() -> dict[str, Path]:
    found = {path.stem: path for path in (HERE / "features").glob("*.yaml")}
    data = ROOT / "tests/data/functions"
    found |= {path.stem: path for path in data.glob("*.yaml") if path.stem not in BROKEN}
    library = ROOT / "functions"
    found |= {path.parent.name: path for path in library.glob("**/function.yaml")}
    return dict(sorted(found.items()))


SOURCES = _sources()


def recipe(name: str, **options: object) -> Recipe:
    function = load_function(SOURCES[name]).function
    base = function.spec.build.base_image or "python:3.9"
    return create_recipe(function, base, **options)  # type: ignore[arg-type]


def python(name: str) -> ImagePython:
    """Return the handler's Python: the one that the function names, or the default."""
    asked = {one.name: one.value for one in load_function(SOURCES[name]).function.spec.env}
    path = asked.get("NUCLIO_PYTHON_EXE_PATH", "/usr/local/bin/python3")
    return ImagePython(path, (3, 11, 0), "cpython")


def check(file: str, text: str) -> None:
    path = GOLDEN / file
    if os.environ.get(WRITE):
        path.write_text(text)
    assert path.is_file(), f"there is no {path.name}; {WRITE}=1 writes it"
    assert path.read_text() == text


@pytest.mark.parametrize("name", SOURCES)
def test_the_dockerfile(name: str) -> None:
    made = full_dockerfile(recipe(name), python(name))
    check(f"{name}.Dockerfile", made.text)
    assert len(parse_dockerfile(made.text)) == len(made.instructions)


@pytest.mark.parametrize("name", SOURCES)
def test_the_dockerfile_where_heredocs_are_understood(name: str) -> None:
    made = full_dockerfile(recipe(name, heredocs=True), python(name))
    other = full_dockerfile(recipe(name), python(name))
    file = GOLDEN / f"{name}.heredocs.Dockerfile"
    if made.text == other.text:
        assert not file.exists()
    else:
        check(file.name, made.text)
    assert len(parse_dockerfile(made.text)) == len(made.instructions)


def test_large_files_and_requirements_come_before_what_changes_more_often() -> None:
    given = replace(recipe("alphapose"), requirements="requirements.txt", large=True)
    check("everything.Dockerfile", full_dockerfile(given, python("alphapose")).text)


@pytest.mark.parametrize("name", SOURCES)
def test_the_beginning_is_the_same(name: str) -> None:
    given = recipe(name)
    first, all_of_it = (
        pre_copy_dockerfile(given).instructions,
        full_dockerfile(given, python(name)).instructions,
    )
    assert all_of_it[: len(first)] == first


def test_no_file_is_left_of_a_function_that_went() -> None:
    names = {path.name.split(".")[0] for path in GOLDEN.iterdir()}
    assert names == {*SOURCES, "everything"}
