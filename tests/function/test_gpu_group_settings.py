"""The settings of GPU groups in annotations."""

from __future__ import annotations

import pytest

from fnbuild.errors import InputError
from fnbuild.function.gpu_group_settings import (
    AWAKE,
    BUDGET,
    GROUP,
    NEED,
    PERMANENT,
    WORKERS_PER_DEVICE,
    GroupSettings,
    group_settings,
    workers_per_device,
)
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from tests.function.function_folder import Folder

CONFIG = """\
metadata:
  name: shares
  annotations:
    fnbuild.io/gpu-group: models
    {key}: {value}
spec:
  description: shares a GPU
  handler: main:handler
  runtime: python:3.11
"""


def function(**annotations: str) -> Function:
    return function_from_dict({"metadata": {"annotations": annotations}}, "x")


def test_without_a_group_there_is_none() -> None:
    assert group_settings(function()) is None
    assert workers_per_device(function()) is None


def test_annotations_describe_the_group() -> None:
    annotations = {GROUP: "g", AWAKE: "2", BUDGET: "20Gi", NEED: "6Gi", PERMANENT: "true"}
    settings = group_settings(function(**annotations))
    assert settings == GroupSettings("g", 2, 20 << 30, 6 << 30, True)
    assert workers_per_device(function(**{WORKERS_PER_DEVICE: "3"})) == 3


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({GROUP: "My Group"}, "'My Group' is not a name of a group"),
        ({GROUP: "g", AWAKE: "0"}, "gpu-group-awake is a whole number from 1, not '0'"),
        ({GROUP: "g", BUDGET: "20 GB"}, "gpu-group-memory is an amount of memory"),
        ({GROUP: "g", NEED: "-1"}, "gpu-memory is an amount of memory"),
        ({GROUP: "g", PERMANENT: "yes"}, "gpu-group-permanent is true or false"),
        ({NEED: "1Gi"}, "has no effect without fnbuild.io/gpu-group"),
        ({AWAKE: "1"}, "has no effect without fnbuild.io/gpu-group"),
        ({GROUP: "g", BUDGET: "5Gi", NEED: "6Gi"}, "needs 6Gi, and the budget of its group is 5Gi"),
        ({WORKERS_PER_DEVICE: "half"}, "workers-per-device is a whole number from 1"),
    ],
)
def test_an_invalid_setting_is_an_error(annotations: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as error:
        group_settings(function(**annotations))
    assert message in error.value.message
    assert error.value.message.startswith("metadata.annotations.fnbuild.io/")
    assert error.value.hint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fnbuild.io/gpu-group-awake", "many", "gpu-group-awake is a whole number from 1"),
        ("fnbuild.io/gpu-group-permanent", "perhaps", "is true or false"),
    ],
)
def test_a_rule_names_the_line(folder: Folder, key: str, value: str, message: str) -> None:
    finding = folder.only(CONFIG.format(key=key, value=value))
    assert finding.rule == "gpu-group"
    assert message in finding.message
    assert finding.span is not None
    assert finding.span.line == 5


@pytest.mark.parametrize(
    ("key", "value"),
    [("permanent", "true"), ("permanent", '"true"'), ("awake", "2"), ("memory", "20Gi")],
)
def test_values_need_no_quotes(folder: Folder, key: str, value: str) -> None:
    findings = folder.findings(CONFIG.format(key=f"fnbuild.io/gpu-group-{key}", value=value))
    assert "gpu-group" not in {finding.rule for finding in findings}


def test_a_misspelt_annotation_gets_a_hint(folder: Folder) -> None:
    finding = folder.only(CONFIG.format(key="fnbuild.io/gpu-group-awaken", value="2"))
    assert "fnbuild.io/gpu-group-awake" in (finding.hint or "")
