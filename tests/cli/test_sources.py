"""Variants, and code from archives and URLs, on the command line; no test needs an engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Fnbuild = Callable[..., Any]


@pytest.fixture
def face(tmp_path: Path, fnbuild: Fnbuild, empty: Path) -> Path:
    """A function with three workers on the CPU."""
    fnbuild("init", tmp_path / "face", "--kind", "http")
    config = tmp_path / "face/function.yaml"
    raw = yaml.safe_load(config.read_text())
    raw["spec"]["triggers"] = {"web": {"kind": "http", "numWorkers": 3}}
    config.write_text(yaml.safe_dump(raw))
    return tmp_path / "face"


def planned(fnbuild: Fnbuild, *arguments: object) -> Any:
    result = fnbuild("deploy", *arguments, "--dry-run", "-o", "yaml")
    assert result.status == 0, result.err
    return yaml.safe_load(result.out)[0]["after"]["spec"]


def test_a_variant_by_flag(face: Path, fnbuild: Fnbuild) -> None:
    assert "limits" not in planned(fnbuild, "--path", face).get("resources", {})
    spec = planned(fnbuild, "--path", face, "--variant", "gpu")
    assert spec["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert spec["triggers"]["web"]["numWorkers"] == 1
    limit = ("--resource-limit", "nvidia.com/gpu=2")
    assert planned(fnbuild, "--path", face, "--variant", "gpu", *limit)["resources"]["limits"] == {
        "nvidia.com/gpu": "2"
    }


def test_an_unknown_variant(face: Path, fnbuild: Fnbuild) -> None:
    result = fnbuild("deploy", "--path", face, "--variant", "gpuu", "--dry-run")
    assert (result.status, "did you mean gpu?" in result.err) == (1, True)


def test_a_variant_needs_a_folder(fnbuild: Fnbuild, empty: Path) -> None:
    result = fnbuild("deploy", "face", "--variant", "gpu")
    assert (result.status, "--path FOLDER" in result.err) == (2, True)


def test_many_workers_on_a_gpu(face: Path, fnbuild: Fnbuild) -> None:
    result = fnbuild("deploy", "--path", face, "--resource-limit", "nvidia.com/gpu=1", "--dry-run")
    assert "3 workers share one GPU" in result.err
    assert "function.yaml:" in result.err


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive(face: Path, fnbuild: Fnbuild, tmp_path: Path, kind: str) -> None:
    packed = shutil.make_archive(str(tmp_path / "packed"), kind, face.parent, face.name)
    assert planned(fnbuild, "--path", packed) == planned(fnbuild, "--path", face)


def test_a_url_without_tls_or_hash(fnbuild: Fnbuild, empty: Path) -> None:
    result = fnbuild("deploy", "--path", "http://example.com/face.zip", "--dry-run")
    assert (result.status, "#sha256=" in result.err) == (1, True)
