"""`fnbuild import` with files that are not exports."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bridges.torchserve.trees import write_model, write_tree

Fnbuild = Callable[..., Any]

FUNCTION = '{metadata: {name: f}, spec: {runtime: "python:3.11", handler: "main:handler"}}'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))


def _bomb() -> str:
    lines = ["za: &a [x, x, x, x, x, x, x, x, x]"]
    for last, name in zip("abcdefghi", "bcdefghij", strict=True):
        lines.append(f"z{name}: &{name} [{', '.join([f'*{last}'] * 9)}]")
    lines.append("metadata: {name: bomb}\nspec: {build: {dependencies: *j}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("functions", ""),
        ("functions", "metadata: [1]\nspec: 3\n"),
        ("functions", "a: {spec: {}}\nb: 3\n"),
        ("functions", "root:x:0:0"),
        ("functions", "a: [unclosed"),
        ("functions", _bomb()),
        ("projects", "x: {project: {metadata: {name: x}, spec: [1]}}"),
        ("projects", "x: {project: 1}"),
        ("projects", "x: {project: {metadata: {name: x}}, functions: [1]}"),
    ],
)
def test_invalid_import_is_one_clear_error(
    kind: str, text: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file = tmp_path / "import.yaml"
    file.write_text(text)
    done = fnbuild("import", kind, file)
    assert done.status == 1, done.err
    assert done.err.count("error: ") == 1
    assert str(file) in done.err
    assert "internal error" not in done.err


@pytest.mark.parametrize(
    ("kind", "text", "other"),
    [
        ("projects", FUNCTION, "functions"),
        ("projects", f"f: {FUNCTION}", "functions"),
        (
            "functions",
            f"{{project: {{meta: {{name: p}}}}, functions: {{f: {FUNCTION}}}}}",
            "projects",
        ),
        ("functions", "p: {project: {meta: {name: p}, spec: {}}, functions: {}}", "projects"),
    ],
)
def test_an_export_of_the_other_kind_names_the_command_that_reads_it(
    kind: str, text: str, other: str, tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file = tmp_path / "import.yaml"
    file.write_text(text)
    done = fnbuild("import", kind, file)
    assert done.status == 1
    assert done.err.count("error: ") == 1
    assert f"{file} is an export of {other}\nhint: `fnbuild import {other}` reads it" in done.err


def test_functions_may_be_named_like_keys(tmp_path: Path, fnbuild: Fnbuild) -> None:
    file = tmp_path / "import.yaml"
    file.write_text("project: " + FUNCTION.replace("name: f", "name: project"))
    assert "imported project" in fnbuild("import", "functions", file).err


def test_an_archive_on_standard_input_must_be_named(
    fnbuild: Fnbuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"x"))))
    done = fnbuild("import", "functions")
    assert done.status == 1
    assert "stdin is an archive\nhint: name the file" in done.err


def test_invalid_yaml_is_reported_with_its_position(tmp_path: Path, fnbuild: Fnbuild) -> None:
    file = tmp_path / "import.yaml"
    file.write_text("a:\n  b: [unclosed\n")
    assert f"{file}:3:1: this is not YAML: " in fnbuild("import", "functions", file).err


def test_an_invalid_function_is_reported_and_the_others_are_imported(
    tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file = tmp_path / "import.yaml"
    wrong = FUNCTION.replace("spec: {", "spec: {replicas: many, ")
    file.write_text(f"f: {FUNCTION}\ng: {wrong.replace('name: f', 'name: g')}\n")
    report = tmp_path / "report.json"
    done = fnbuild("import", "functions", file, "--save-report", "--report-file-path", str(report))
    assert done.status == 1
    assert "imported f" in done.err
    assert "replicas" in done.err
    assert '"g"' in report.read_text()
    shown = fnbuild("get", "functions")
    assert [row.split("|")[1].strip() for row in shown.out.splitlines()[1:]] == ["f"]
    assert "imported" in shown.out


def test_a_report_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file, report = tmp_path / "import.yaml", tmp_path / "none" / "report.json"
    file.write_text(FUNCTION)
    done = fnbuild("import", "functions", file, "--save-report", "--report-file-path", str(report))
    assert done.status == 1
    assert f"error: cannot write {report}: No such file or directory" in done.err


def test_functions_in_a_project_export_belong_to_the_project(
    tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file = tmp_path / "import.yaml"
    file.write_text(
        "p: {project: {meta: {name: p}, spec: {description: mine}},\n"
        f"    functions: {{f: {FUNCTION}}}}}\n"
        "q: {project: {metadata: {name: q, labels: {a: b}}}}\n"
        "r: {project: {metadata: {name: r}}}\n"
    )
    done = fnbuild("import", "projects", file, "--skip", "r", "--skip-label-selectors", "a=b")
    assert done.status == 0, done.err
    assert "skipped project q" in done.err
    assert "skipped project r" in done.err
    assert "| p" in fnbuild("get", "functions", "f").out
    names = fnbuild("get", "projects", "-o", "wide").out
    assert "mine" in names
    assert "q" not in names.split()


STREAM = (
    '{metadata: {name: f}, spec: {runtime: "python:3.11", minReplicas: 1, maxReplicas: 4,'
    " triggers: {s: {kind: v3ioStream}}}}"
)


def test_replicas_of_a_stream_are_repaired_unless_disabled(
    tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file = tmp_path / "import.yaml"
    file.write_text(STREAM)
    refused = fnbuild("import", "functions", file, "--skip-autofix")
    assert refused.status == 1
    assert "a v3ioStream trigger does not scale" in refused.err
    done = fnbuild("import", "functions", file)
    assert done.status == 0, done.err
    assert "warning: f: minReplicas is 4" in done.err
    shown = json.loads(fnbuild("get", "functions", "f", "-o", "json").out)
    assert (shown["spec"]["minReplicas"], shown["spec"]["maxReplicas"]) == (4, 4)


@pytest.mark.parametrize("flags", [(), ("--skip-autofix",)])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("minReplicas: 3, maxReplicas: 2", "minReplicas (3) is more than maxReplicas (2)"),
        ("triggers: {a: {kind: http}, b: {kind: http}}", "http trigger"),
        ("triggers: {a: {kind: http, name: b}}", "b"),
    ],
)
def test_import_refuses_configurations_that_nuclio_refuses(
    spec: str, message: str, flags: tuple[str, ...], tmp_path: Path, fnbuild: Fnbuild
) -> None:
    file = tmp_path / "import.yaml"
    file.write_text(f"{{metadata: {{name: f}}, spec: {{runtime: python, {spec}}}}}")
    done = fnbuild("import", "functions", file, *flags)
    assert done.status == 1
    assert message in done.err
    assert fnbuild("get", "functions").out == "No functions found\n"


def test_every_field_that_nuclio_prints_is_printed(tmp_path: Path, fnbuild: Fnbuild) -> None:
    file = tmp_path / "import.yaml"
    file.write_text(
        "{metadata: {name: f}, spec: {triggers: {t: {kind: http}}, "
        "dataBindings: {d: {kind: v3io}}}}"
    )
    assert fnbuild("import", "functions", file).status == 0
    for kind, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        shown = read(fnbuild("get", "functions", "f", "-o", kind).out)
        spec = shown["spec"]
        assert spec["eventTimeout"] == ""
        assert (spec["resources"], spec["build"], spec["platform"]) == ({}, {}, {})
        assert spec["triggers"]["t"] | {"class": "", "name": ""} == spec["triggers"]["t"]
        assert spec["dataBindings"]["d"] == {"class": "", "kind": "v3io", "url": ""}
        assert shown["status"]["httpPort"] == 0


def test_a_tree_of_torchserve_becomes_functions(
    fnbuild: Fnbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_tree(tmp_path / "tree", "load_models=all\nvmargs=-Xmx1g\n")
    for name in ("cats", "dogs"):
        write_model(tmp_path / "tree" / "model-store" / f"{name}.mar", name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "notes.txt").touch()
    result = fnbuild("import", tmp_path / "tree")
    assert result.status == 1
    assert f"{config.relative_to(tmp_path)}: functions have no counterpart of vmargs" in result.err
    assert "cats exists already" in result.err
    assert "imported dogs: `fnbuild deploy --path dogs` runs it" in result.err
    assert fnbuild("import", config, "--path", "functions").status == 0
    assert fnbuild("validate", "functions").err.startswith("2 functions: 0 errors")
