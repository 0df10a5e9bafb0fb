"""The settings of sleep and wake in annotations, and Nuclio's for scaling to zero."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.sleep_settings import (
    IDLE_TIMEOUT,
    SLEEP_LEVEL,
    SleepSettings,
    sleep_settings,
)
from tests.function.function_folder import Folder

ZERO = {"minReplicas": 0, "maxReplicas": 1}
WINDOWS = {
    "scaleResources": [
        {"metricName": "events", "windowSize": "30s", "threshold": 0},
        {"metricName": "cpu", "windowSize": "2m", "threshold": 0},
    ]
}
CONFIG = """\
metadata:
  name: sleeper
  annotations:
    {key}: {value}
spec:
  description: sleeps
  handler: main:handler
  runtime: python:3.11
"""


def settings(annotations: dict[str, str] | None = None, **spec: Any) -> SleepSettings:
    raw = {"metadata": {"annotations": annotations or {}}, "spec": spec}
    return sleep_settings(function_from_dict(raw, "x"))


def test_without_settings_a_function_sleeps_on_request_only() -> None:
    assert settings() == SleepSettings(None, "exit")
    assert settings().to_processor() is None


def test_annotations_set_timeout_and_level() -> None:
    assert settings({IDLE_TIMEOUT: "10m", SLEEP_LEVEL: "offload"}).to_processor() == {
        "idle_timeout": 600.0,
        "level": "offload",
    }


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({**ZERO, "scaleToZero": WINDOWS}, 120.0),
        ({**ZERO, "scaleToZero": {}}, None),
        (ZERO, None),
        ({"minReplicas": 1, "maxReplicas": 2, "scaleToZero": WINDOWS}, None),
        ({**ZERO, "replicas": 1, "scaleToZero": WINDOWS}, None),
    ],
)
def test_the_largest_window_of_a_function_that_scales_to_zero(
    spec: dict[str, Any], seconds: float | None
) -> None:
    assert settings(**spec).idle_timeout == seconds


def test_the_annotation_takes_precedence_over_windows() -> None:
    assert settings({IDLE_TIMEOUT: "5s"}, **ZERO, scaleToZero=WINDOWS).idle_timeout == 5
    assert settings({IDLE_TIMEOUT: "0"}, **ZERO, scaleToZero=WINDOWS).idle_timeout is None


@pytest.mark.parametrize(
    ("key", "value", "message", "hint"),
    [
        (IDLE_TIMEOUT, "ten", "a duration of 0 or more, not 'ten'", "such as 30s, 10m or 1h"),
        (IDLE_TIMEOUT, "-5m", "not '-5m'", "such as 30s"),
        (IDLE_TIMEOUT, '"600"', "not '600'", "its unit"),
        (SLEEP_LEVEL, "offlod", "one of exit, offload; not 'offlod'", "did you mean offload"),
        ("fnbuild.io/idle-timeuot", "5m", "has no effect", "fnbuild.io/idle-timeout"),
    ],
)
def test_invalid_annotations_have_a_place_and_a_remedy(
    folder: Folder, key: str, value: str, message: str, hint: str
) -> None:
    finding = folder.only(CONFIG.format(key=key, value=value))
    assert finding.rule == "sleep"
    assert message in finding.message
    assert hint in (finding.hint or "")
    assert finding.span is not None
    assert finding.span.line == 4


def test_other_annotations_of_fnbuild_are_no_misspellings(folder: Folder) -> None:
    findings = folder.findings(CONFIG.format(key="fnbuild.io/secret-env", value="A"))
    assert "sleep" not in {finding.rule for finding in findings}


def test_an_invalid_window_has_a_place(folder: Folder) -> None:
    text = CONFIG.format(key="name", value="Sleeper") + (
        "  minReplicas: 0\n"
        "  maxReplicas: 1\n"
        "  scaleToZero:\n"
        "    scaleResources:\n"
        "      - {metricName: events, windowSize: 10, threshold: 0}\n"
        "  triggers:\n"
        "    web: {kind: http}\n"
    )
    [finding] = [finding for finding in folder.findings(text) if finding.rule == "sleep"]
    assert "windowSize is a duration" in finding.message
    assert finding.span is not None
    assert finding.span.line == 13


def test_a_deployed_function_with_an_invalid_annotation_is_an_error() -> None:
    with pytest.raises(InputError, match=r"metadata\.annotations\.fnbuild\.io/idle-timeout: the"):
        settings({IDLE_TIMEOUT: "soon"})
