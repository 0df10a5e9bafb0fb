"""The settings of a recording in annotations."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.builder.processor_settings import processor_settings
from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.record_settings import RECORD, RECORD_AGE, find_problems, record_settings
from fnbuild.function.types import Function


def function(**annotations: str) -> Function:
    keys = {"record": RECORD, "age": RECORD_AGE}
    values: dict[str, Any] = {keys[name]: value for name, value in annotations.items()}
    return function_from_dict({"metadata": {"name": "f", "annotations": values}}, "x")


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, None),
        ({"record": "false"}, None),
        ({"record": "0"}, None),
        ({"record": "true"}, {"size": 100 << 20, "age": 604800.0}),
        ({"record": "1Gi", "age": "36h"}, {"size": 1 << 30, "age": 129600.0}),
    ],
)
def test_annotations_set_size_and_age(annotations: dict[str, str], expected: Any) -> None:
    assert record_settings(function(**annotations)) == expected
    assert processor_settings(function(**annotations)).get("record") == expected


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"record": "much"}, "the size of a recording is an amount of memory or true, not 'much'"),
        ({"record": "-1"}, "the size of a recording is an amount of memory or true, not '-1'"),
        ({"record": "true", "age": "7d"}, "the age of a recording is a duration, not '7d'"),
        ({"age": "1h"}, "fnbuild.io/record-age has no effect without fnbuild.io/record"),
    ],
)
def test_invalid_settings_are_reported(annotations: dict[str, str], text: str) -> None:
    assert [problem.message for problem in find_problems(function(**annotations))] == [text]
    with pytest.raises(InputError) as error:
        record_settings(function(**annotations))
    assert text in error.value.message
