"""The format of results."""

from __future__ import annotations

import json

import click
import pytest
import yaml

from fnbuild.cli.listing import function_object, print_functions, print_projects, summary_line
from fnbuild.cli.logs import record_formatter
from fnbuild.cli.output import (
    escape_control_characters,
    format_flat_json,
    format_table,
    print_values,
)
from fnbuild.function.types import EnvVar, Function, Metadata, Spec, Trigger
from fnbuild.platforms import Deployment, LogRecord, Project

TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/nuclio/main.py", line 1, in <module>
    import torch
ModuleNotFoundError: No module named 'torch'
"""


def deployment(name: str, **changes: object) -> Deployment:
    labels = {"nuclio.io/project-name": "cvat", "b": "1"}
    function = Function(
        metadata=Metadata(
            name=name, namespace="nuclio", labels=labels, annotations={"type": "detector"}
        ),
        spec=Spec(
            handler="main:handler",
            env=[EnvVar(name="DB_PASSWORD", value="hunter2"), EnvVar(name="MODE", value="fast")],
            triggers={"kafka": Trigger(kind="kafka-cluster", password="hunter2")},
        ),
    )
    values: dict[str, object] = {
        "function": function,
        "platform": "process",
        "state": "ready",
        "revision": 1,
        "http_port": 41234,
        "replicas": (1, 1),
        "external_urls": ("127.0.0.1:41234",),
    }
    return Deployment(**{**values, **changes})  # type: ignore[arg-type]


def test_tables_have_nuctls_format() -> None:
    rows = [["face-haar", "ready"], ["x", "two\nlines"]]
    assert click.unstyle(format_table(["name", "state"], rows)) == (
        "NAME      | STATE\nface-haar | ready\nx         | two lines"
    )
    assert format_table(["name", "state"], []) == "NAME | STATE"


def test_control_characters_are_escaped() -> None:
    assert format_table(["label"], [["\x1b[31mcat\a\tö"]]) == "LABEL\n\\x1b[31mcat\\x07 ö"
    assert escape_control_characters("a\u202eb\n") == "a\\u202eb\\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2.5, "a", None], '[1, 2.5, "a", null]'),
        ([], "[]"),
        ({}, "{}"),
        ({"a": {}}, '{\n  "a": {}\n}'),
        ([{"p": [1, 2]}], '[\n  {\n    "p": [1, 2]\n  }\n]'),
        ([[1, 2], [3]], "[\n  [1, 2],\n  [3]\n]"),
        ("ä", '"ä"'),
    ],
)
def test_plain_lists_take_one_line(value: object, expected: str) -> None:
    assert format_flat_json(value) == expected
    assert json.loads(expected) == value


def test_functions_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    broken = deployment("b", state="unhealthy", message=TRACEBACK, replicas=(0, 1))
    print_functions([deployment("face-haar"), broken], "table")
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "NAMESPACE | NAME      | PROJECT | STATE     | REPLICAS | NODE PORT",
        "nuclio    | face-haar | cvat    | ready     | 1/1      | 41234",
        "nuclio    | b         | cvat    | unhealthy | 0/1      | 41234",
    ]
    assert shown.err == "b: ModuleNotFoundError: No module named 'torch'\n"


def test_the_port_column_is_shown_only_if_there_are_ports(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_functions([deployment("f", http_port=0)], "table")
    assert "NODE PORT" not in capsys.readouterr().out
    print_functions([deployment("f", http_port=0), deployment("g")], "table")
    without, with_one = capsys.readouterr().out.splitlines()[1:]
    assert without.endswith("|")
    assert with_one.endswith("| 41234")


def test_wide_adds_labels_and_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    print_functions([deployment("f")], "wide")
    header, row = capsys.readouterr().out.splitlines()
    assert "| LABELS" in header
    assert header.endswith("| INTERNAL INVOCATION URL | EXTERNAL INVOCATION URLS")
    assert "b=1,nuclio.io/project-name=cvat" in row
    assert row.endswith("127.0.0.1:41234")


def test_one_function_is_an_object_and_two_are_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_functions([deployment("f")], "json")
    entry = json.loads(capsys.readouterr().out)
    assert entry["metadata"]["name"] == "f"
    assert entry["status"] == {
        "state": "ready",
        "httpPort": 41234,
        "externalInvocationUrls": ["127.0.0.1:41234"],
        "platform": "process",
        "revision": 1,
    }
    print_functions([deployment("f"), deployment("g")], "yaml")
    both = yaml.safe_load(capsys.readouterr().out)
    assert [item["metadata"]["name"] for item in both] == ["f", "g"]


def test_json_is_indented_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_values([{"a": "ä"}], "json")
    assert capsys.readouterr().out == '{\n\t"a": "ä"\n}\n'


def test_secrets_can_be_masked() -> None:
    shown = function_object(deployment("f"), mask=True)["spec"]
    assert shown["triggers"]["kafka"]["password"] == "********"
    assert [item["value"] for item in shown["env"]] == ["********", "fast"]
    assert "hunter2" not in str(shown)
    assert "hunter2" in str(function_object(deployment("f")))


def test_a_function_without_port_has_port_0() -> None:
    assert function_object(deployment("f", http_port=0))["status"]["httpPort"] == 0


def test_projects(capsys: pytest.CaptureFixture[str]) -> None:
    result = [Project("cvat", "nuclio", "for CVAT", "me")]
    print_projects(result, "wide")
    assert capsys.readouterr().out.splitlines() == [
        "NAMESPACE | NAME | DESCRIPTION | OWNER",
        "nuclio    | cvat | for CVAT    | me",
    ]
    print_projects(result, "json")
    assert json.loads(capsys.readouterr().out) == {
        "meta": {"name": "cvat", "namespace": "nuclio"},
        "spec": {"description": "for CVAT", "owner": "me"},
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (TRACEBACK, "ModuleNotFoundError: No module named 'torch'"),
        ("worker 0 ended\nmore", "worker 0 ended"),
        ("", ""),
    ],
)
def test_the_summary_line_of_a_failure(message: str, expected: str) -> None:
    assert summary_line(message) == expected


def test_the_url_of_a_function() -> None:
    assert deployment("f").url == "http://127.0.0.1:41234"
    assert deployment("f", external_urls=("https://host/f",)).url == "https://host/f"
    assert deployment("f", external_urls=(), http_port=0).url == ""


def test_log_lines() -> None:
    record = LogRecord(1700000000.25, "warning", "slow", "1", {"name": "h", "ms": 12})
    line = click.unstyle(record_formatter("human")(record))
    assert line.endswith('.250 (W) w1 slow {"ms": 12}')
