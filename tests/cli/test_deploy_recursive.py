"""`deploy --recursive` on the process platform: all functions of a folder, and failures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

Fnbuild = Callable[..., Any]

CODE = "def handler(context, event):\n    return 'here'\n"


@pytest.fixture
def running(empty: Path, fnbuild: Fnbuild) -> Iterator[Fnbuild]:
    """Run commands; stop the functions at the end of the test."""
    yield fnbuild
    fnbuild("down")


def function(folder: Path, name: str, file: str = "function.yaml", code: str = CODE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(
        f"metadata: {{name: {name}}}\n"
        'spec: {runtime: "python:3.11", handler: "main:handler",\n'
        "  triggers: {http: {kind: http, numWorkers: 1}}}\n"
    )
    (folder / "main.py").write_text(code)
    return folder


def test_every_function_below_a_folder_and_one_that_fails(tmp_path: Path, running: Fnbuild) -> None:
    top = tmp_path / "serverless"
    first = function(top / "with blanks" / "nuclio", "first")
    function(first / "inside", "inside")
    function(top / "broken", "broken", code="raise RuntimeError('no weights')\n")
    function(top / "wrong", "wrong")
    (top / "wrong" / "function.yaml").write_text("metadata: {name: wrong}\nspec: {replicas: x}\n")
    function(top / ".git" / "hooks", "hidden")
    (top / "round").symlink_to(top)
    (top / "again").symlink_to(first)

    flags = ("--recursive", "--project-name", "cvat", "--concurrency", "2", "-o", "json")
    done = running("deploy", "--path", top, *flags)
    assert done.status == 1
    rows = {row["name"]: row for row in json.loads(done.out)}
    wrong = str(top / "wrong" / "function.yaml")
    assert list(rows) == ["broken", "first", "inside", wrong]
    assert {name: row["state"] for name, row in rows.items()} == {
        "broken": "failed",
        "first": "ready",
        "inside": "ready",
        wrong: "failed",
    }
    assert rows["first"]["port"] > 0
    assert rows["first"]["seconds"] > 0
    assert rows["broken"]["port"] is None
    assert "broken" in rows["broken"]["reason"]
    assert "RuntimeError: no weights" in done.err
    assert f"{wrong}:2:" in done.err
    assert "  first: staging " in done.err
    assert "deployed 2 of 4" in done.err
    assert "Traceback" not in done.err.replace("Traceback (most recent call last)", "", 2)
    shown = json.loads(running("get", "function", "first", "-o", "json").out)
    assert shown["metadata"]["labels"]["nuclio.io/project-name"] == "cvat"

    # The valid functions can be deployed again, which the table shows.
    done = running("deploy", "--path", first, "--recursive", "-o", "wide")
    assert done.status == 0, done.err
    lines = [[cell.strip() for cell in line.split("|")] for line in done.out.splitlines()]
    assert lines[0] == ["NAME", "STATE", "PORT", "SECONDS", "URL", "FILE", "REASON"]
    assert [line[:3] for line in lines[1:]] == [
        ["first", "ready", str(rows["first"]["port"])],
        ["inside", "ready", str(rows["inside"]["port"])],
    ]


def test_two_functions_of_one_name_are_not_deployed(tmp_path: Path, running: Fnbuild) -> None:
    for folder in ("a", "b"):
        function(tmp_path / "both" / folder, "twin")
    function(tmp_path / "both" / "c", "single")
    done = running("deploy", "--path", tmp_path / "both", "--recursive")
    assert done.status == 1
    files = [str(tmp_path / "both" / item / "function.yaml") for item in "ab"]
    assert f"twin is the name of several functions: {', '.join(files)}" in done.err
    names = [line.split("|")[1].strip() for line in running("get", "functions").out.splitlines()]
    assert names == ["NAME", "single"]


def test_another_pattern_of_file_names(tmp_path: Path, running: Fnbuild) -> None:
    folder = function(tmp_path / "both", "small")
    function(folder, "large", "function-gpu.yaml")
    function(folder, "larger", "function-tensorrt.yaml")
    done = running("deploy", "--path", folder, "--recursive", "-f", "function-*.yaml", "-o", "name")
    assert (done.status, done.out.split()) == (0, ["large", "larger"]), done.err


def test_a_preview_changes_nothing(tmp_path: Path, running: Fnbuild) -> None:
    top = tmp_path / "serverless"
    function(top / "a", "small")
    function(top / "b", "large")
    flags = ("deploy", "--path", top, "--recursive")
    done = running(*flags, "--dry-run")
    assert done.status == 0, done.err
    rows = [[cell.strip() for cell in line.split(" | ")] for line in done.out.splitlines()]
    assert ["large", "create", "function large"] in rows
    assert ["small", "create", "function small"] in rows
    assert "2 functions: 2 to change, 0 as they are; nothing was changed" in done.err
    assert json.loads(running("get", "functions", "-o", "json").out or "[]") == []
    assert running(*flags, "--file", "function.yaml").status == 0
    function(top / "c", "small")
    done = running(*flags, "--dry-run", "-o", "json")
    assert done.status == 1
    (large,) = json.loads(done.out)
    assert large["name"] == "large"
    assert {step["verb"] for step in large["steps"]} == {"keep"}
    assert "small is the name of several functions" in done.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recursive"], "--recursive needs a folder"),
        (["me", "--path", ".", "--recursive"], "a name is about one function"),
        (["--path", ".", "--recursive", "--run-image", "x"], "--run-image is about one function"),
        (["--path", ".", "--recursive", "--file", "a/f.yaml"], "--file a/f.yaml names a place"),
    ],
)
def test_flags_that_exclude_each_other(flags: list[str], message: str, fnbuild: Fnbuild) -> None:
    done = fnbuild("deploy", *flags)
    assert done.status == 2
    assert message in done.err


def test_a_folder_without_functions_and_a_missing_folder(tmp_path: Path, fnbuild: Fnbuild) -> None:
    (tmp_path / "function-gpu.yaml").write_text("")
    done = fnbuild("deploy", "--path", tmp_path, "--recursive")
    assert done.status == 1
    assert f"there is no function.yaml below {tmp_path}" in done.err
    assert "`--file NAME`" in done.err
    done = fnbuild("deploy", "--path", tmp_path / "missing", "--recursive")
    assert done.status == 1
    assert "missing is no folder" in done.err
