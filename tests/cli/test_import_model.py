"""`fnbuild import MODEL.mar`, beside nuctl's `import functions` and `import projects`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Fnbuild = Callable[..., Any]

FACES = Path(__file__).parents[2] / "functions/opencv/face-haar"
HANDLER = """
def handle(data, context):
    if data is None:
        return None
    return [{"got": row["body"].decode()} for row in data]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    model = {"modelName": "echo_261122_0801", "modelVersion": "261122_0801", "handler": "echo.py"}
    target = tmp_path / "echo_261122_0801.mar"
    with zipfile.ZipFile(target, "w") as members:
        members.writestr("echo.py", HANDLER)
        members.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
    return target


def test_a_model_becomes_a_folder_with_the_functions_name(archive: Path, fnbuild: Fnbuild) -> None:
    done = fnbuild("import", archive)
    assert (done.status, done.err) == (0, "imported echo: `fnbuild deploy --path echo` runs it\n")
    assert fnbuild("validate", "echo").status == 0


def test_a_model_goes_to_the_folder_of_the_option(archive: Path, fnbuild: Fnbuild) -> None:
    assert fnbuild("import", archive, "--path", "own/folder").status == 0
    assert Path("own/folder/function.yaml").is_file()


def test_the_archive_of_a_function_becomes_that_function_again(fnbuild: Fnbuild) -> None:
    done = fnbuild("package", "torchserve", "--path", FACES, "--export-path", "store")
    assert done.status == 0, done.err
    (path,) = Path("store").glob("*.mar")
    assert fnbuild("import", path).status == 0
    originals = {file.relative_to(FACES) for file in FACES.rglob("*") if file.is_file()}
    copies = {file.relative_to("face-haar") for file in Path("face-haar").rglob("*.*")}
    originals = {file for file in originals if "__pycache__" not in file.parts}
    assert copies - {Path("model-config.yaml")} == originals
    for file in originals:
        assert Path("face-haar", file).read_bytes() == (FACES / file).read_bytes()


def test_a_folder_without_a_configuration_is_no_tree(fnbuild: Fnbuild) -> None:
    Path("tree/model-store").mkdir(parents=True)
    assert "or a folder with `config` and `model-store`" in fnbuild("import", "tree").err


@pytest.mark.parametrize("name", ["missing.mar", "empty.mar", "."])
def test_a_path_without_a_model_is_one_clear_error(name: str, fnbuild: Fnbuild) -> None:
    Path("empty.mar").touch()
    done = fnbuild("import", name)
    assert done.status == 1
    assert done.err.count("error: ") == 1
    assert "internal error" not in done.err


def test_names_of_commands_are_no_models(fnbuild: Fnbuild) -> None:
    Path("functions").mkdir()
    assert "no such file: missing" in fnbuild("import", "functions", "missing").err
    assert 'unknown command "model"' in fnbuild("import", "model").err
