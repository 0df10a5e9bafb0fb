"""The part of a processor's configuration that is the same on every platform."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fnbuild.builder import processor_settings
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.trigger_rules import SERVED_KINDS
from fnbuild.function.types import Function
from fnbuild.runtime.config import ProcessorConfig
from fnbuild.runtime.triggers.kinds import TRIGGER_KINDS

PLACE = {"code": "/opt/nuclio", "listeners": {"http": {"port": 8080}}}


def function(**spec: Any) -> Function:
    base = {"handler": "main:handler", "runtime": "python:3.11"}
    return with_defaults(
        function_from_dict({"metadata": {"name": "f"}, "spec": base | spec}, "test")
    )


def test_settings_do_not_depend_on_the_platform() -> None:
    settings = processor_settings.processor_settings(
        function(env=[{"name": "TOKEN", "value": "secret"}]), 3
    )
    of_the_platform = {"code", "mount", "interpreter", "env", "sdk_path", "listeners", "immutable"}
    assert not settings.keys() & of_the_platform
    assert "secret" not in json.dumps(settings)
    assert settings["function"]["revision"] == 3


def test_only_functions_that_sleep_have_settings_of_it() -> None:
    assert "sleep" not in processor_settings.processor_settings(function())
    windows = {"scaleResources": [{"metricName": "events", "windowSize": "2m", "threshold": 0}]}
    sleeper = function(minReplicas=0, maxReplicas=1, scaleToZero=windows)
    config = ProcessorConfig(processor_settings.processor_settings(sleeper) | PLACE)
    assert (config.sleep.idle_timeout, config.sleep.level) == (120.0, "exit")


def test_the_processor_accepts_the_settings_of_a_platform() -> None:
    settings = processor_settings.processor_settings(
        function(eventTimeout="1m30s", readinessTimeoutSeconds=7)
    )
    config = ProcessorConfig(settings | PLACE)
    assert (config.event_timeout, config.readiness_timeout) == (90.0, 7.0)
    assert config.log_format == "auto"
    assert config.restart == "always"


@pytest.mark.parametrize(
    ("policy", "restart"),
    [
        (None, "always"),
        ({}, "always"),
        ("no", "no"),
        ({"name": "no"}, "no"),
        ({"name": False}, "no"),
        ({"name": "always", "maximumRetryCount": 3}, "always"),
    ],
)
def test_workers_are_not_restarted_if_the_policy_forbids_it(policy: Any, restart: str) -> None:
    settings = processor_settings.processor_settings(
        function(platform={"attributes": {"restartPolicy": policy}})
    )
    assert settings["restart"] == restart


def test_default_timeouts() -> None:
    assert processor_settings.termination_seconds(function()) == 10.0
    assert processor_settings.readiness_seconds(function()) == 120.0
    assert processor_settings.event_seconds(function()) is None


def test_the_slowest_trigger_determines_the_drain_timeout() -> None:
    triggers = {
        "web": {"kind": "http", "workerTerminationTimeout": "2s"},
        "timer": {"kind": "cron", "workerTerminationTimeout": "1m"},
    }
    assert processor_settings.termination_seconds(function(triggers=triggers)) == 60.0


def test_the_rules_and_the_processor_have_the_same_kinds_of_triggers() -> None:
    assert SERVED_KINDS.keys() == TRIGGER_KINDS.keys()
