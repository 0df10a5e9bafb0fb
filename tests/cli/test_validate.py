"""The functions that `fnbuild validate` checks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bridges.torchserve.trees import write_tree

Fnbuild = Callable[..., Any]


@pytest.fixture
def library(tmp_path: Path, fnbuild: Fnbuild) -> Path:
    """Two functions below a folder that is not a function, and folders that are skipped."""
    for name in ("opencv/one", "two", "two/nested", ".git/three", ".venv/lib/four"):
        fnbuild("init", tmp_path / "library" / name, "--kind", "http")
    return tmp_path / "library"


SIMPLE = """\
metadata: {name: small}
spec: {runtime: "python:3.11", handler: "main:handler"}
"""


def test_all_functions_below_a_folder_are_validated(library: Path, fnbuild: Fnbuild) -> None:
    assert fnbuild("validate", library).err == "2 functions: 0 errors, 0 warnings\n"
    wrong = library / "opencv/one/function.yaml"
    wrong.write_text(wrong.read_text() + "  replicas: many\n")
    result = fnbuild("validate", library, library / "two")
    assert (result.status, "3 functions: 1 error" in result.err) == (1, True)
    assert str(wrong) in result.out


def test_a_functions_folder_is_validated_without_its_subfolders(
    library: Path, fnbuild: Fnbuild
) -> None:
    assert fnbuild("validate", library / "two").err.startswith("1 function:")


def test_a_folder_without_functions_is_an_error(tmp_path: Path, fnbuild: Fnbuild) -> None:
    result = fnbuild("validate", tmp_path)
    assert (result.status, "holds no function.yaml" in result.out) == (1, True)


def test_all_functions_are_repaired(library: Path, fnbuild: Fnbuild) -> None:
    file = library / "two/function.yaml"
    file.write_text(file.read_text().replace("  name: two", "\tname: two"))
    assert fnbuild("validate", library).status == 1
    assert fnbuild("validate", library, "--fix").status == 0


def test_an_archive_is_validated(library: Path, tmp_path: Path, fnbuild: Fnbuild) -> None:
    for name in ("packed.zip", "packed.tar.gz"):
        kind = "zip" if name.endswith("zip") else "gztar"
        packed = shutil.make_archive(str(tmp_path / "packed"), kind, library / "two")
        assert fnbuild("validate", packed).err == "1 function: 0 errors, 0 warnings\n"
    result = fnbuild("validate", packed, "--fix")
    assert (result.status, "in place" in result.err) == (2, True)
    assert fnbuild("validate", "http://example.com/x.zip").status == 1


def test_a_variant_is_validated(library: Path, fnbuild: Fnbuild) -> None:
    folder = library / "two"
    assert fnbuild("validate", folder, "--variant", "gpu").err.endswith("0 errors, 0 warnings\n")
    result = fnbuild("validate", folder, "--variant", "gpuu")
    assert (result.status, "did you mean gpu?" in result.out) == (1, True)


def test_variants_next_to_function_yaml_are_validated(tmp_path: Path, fnbuild: Fnbuild) -> None:
    wrong = SIMPLE.replace("main:handler", "main:nothing")
    for name in ("both", "only"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("def handler(context, event):\n    return 1\n")
        (tmp_path / name / "function-gpu.yaml").write_text(wrong)
    (tmp_path / "both" / "function.yaml").write_text(SIMPLE)
    done = fnbuild("validate", tmp_path / "both")
    assert done.status == 1
    assert "function-gpu.yaml" in done.out
    assert done.err == "2 configurations: 1 error, 0 warnings\n"
    done = fnbuild("validate", tmp_path)
    assert done.err == "3 configurations: 2 errors, 0 warnings\n"
    for flags in ((tmp_path / "only",), (tmp_path / "both", "--file", "function-gpu.yaml")):
        assert fnbuild("validate", *flags).err == "1 function: 1 error, 0 warnings\n"
    done = fnbuild("validate", tmp_path, "-f", "function-gpu.yaml")
    assert done.err == "2 functions: 2 errors, 0 warnings\n"
    assert fnbuild("validate", tmp_path / "both", "-f", "function.yaml").status == 0


def test_the_file_named_in_the_hint_can_be_validated(tmp_path: Path, fnbuild: Fnbuild) -> None:
    (tmp_path / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (tmp_path / "model.yaml").write_text(SIMPLE)
    done = fnbuild("validate", tmp_path)
    assert f"--file {tmp_path / 'model.yaml'}" in done.out
    done = fnbuild("validate", tmp_path, "--file", tmp_path / "model.yaml")
    assert done.err == "1 function: 0 errors, 0 warnings\n"


def test_manifests_of_kserve_are_validated(tmp_path: Path, fnbuild: Fnbuild) -> None:
    file = tmp_path / "service.yaml"
    text = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: s3://bucket/iris
"""
    file.write_text(text.replace("storageUri", "storageURI"))
    result = fnbuild("validate", file)
    assert result.status == 1
    assert f"{file}:8:7: error[unknown-key]" in result.out
    assert result.err == "1 configuration: 1 error, 0 warnings\n"
    file.write_text(text)
    assert fnbuild("validate", "--file", file, tmp_path).status == 0
    assert fnbuild("validate", "--fix", file).err == "1 configuration: 0 errors, 0 warnings\n"
    assert file.read_text() == text


def test_a_tree_of_torchserve_is_checked_and_repaired(tmp_path: Path, fnbuild: Fnbuild) -> None:
    config = write_tree(tmp_path, "# models\nenable_model_api=true # yes\nsomething_else=1\n")
    result = fnbuild("validate", tmp_path)
    assert (result.status, result.err) == (1, "1 configuration: 1 error, 1 warning\n")
    assert f"{config}:2:23: error[inline-comment]: Java has no comments after values" in result.out
    assert fnbuild("validate", config, "--strict").err.endswith("2 errors, 0 warnings\n")
    assert fnbuild("validate", config, "--fix").err == (
        f"fixed {config}:2: put the comment of enable_model_api on a line of its own\n"
        "1 configuration: 0 errors, 1 warning\n"
    )
    assert config.read_text() == "# models\n# yes\nenable_model_api=true\nsomething_else=1\n"
