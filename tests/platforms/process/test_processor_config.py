"""Processor configurations, and errors over the control socket."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import (
    ConflictError,
    NotReadyError,
    PlatformError,
    UsageError,
)
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function
from fnbuild.platforms.process import processor_config, supervisor_protocol
from fnbuild.runtime.config import ProcessorConfig


def function(**spec: Any) -> Function:
    base = {"handler": "main:handler", "runtime": "python:3.11"}
    return with_defaults(
        function_from_dict({"metadata": {"name": "f"}, "spec": base | spec}, "test")
    )


def test_the_processor_accepts_its_configuration() -> None:
    raw = processor_config.processor_config(
        function(
            description="d",
            eventTimeout="1m30s",
            readinessTimeoutSeconds=7,
            env=[{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"x": {}}}],
            loggerSinks=[{"sink": "s"}, {"level": "error"}, {"level": "Info"}],
            triggers={
                "web": {
                    "kind": "http",
                    "numWorkers": 3,
                    "workerAvailabilityTimeoutMilliseconds": 0,
                    "workerTerminationTimeout": "2s",
                    "attributes": {"maxRequestBodySize": 33554432},
                    "batch": {"mode": "enable", "batchSize": 4, "timeout": "20ms"},
                },
                "timer": {
                    "kind": "cron",
                    "workerAllocatorName": "mine",
                    "attributes": {"interval": "1m30s"},
                },
                "stream": {"kind": "kafka-cluster"},
            },
        ),
        processor_config.RevisionPaths(4, "/code", "/usr/bin/python3", "/sdk"),
    )
    raw["listeners"] = {"http": [{"fd": 3}, {"fd": 5}], "admin": {"fd": 4}, "control": "/c.sock"}
    config = ProcessorConfig(raw)
    assert config.function["revision"] == 4
    assert (config.event_timeout, config.readiness_timeout) == (90.0, 7.0)
    assert config.env == {"A": "1"}
    assert config.log_level == "info"
    assert list(config.triggers) == ["web", "timer"]
    timer = config.triggers["timer"]
    assert (timer.allocator, timer.attributes) == ("mine", {"interval": 90.0})
    trigger = config.triggers["web"]
    assert trigger.batch == (4, 0.02, False)
    assert timer.batch is None
    assert (trigger.num_workers, trigger.availability_timeout) == (3, 0.0)
    assert trigger.termination_timeout == 2.0
    assert trigger.attributes["maxrequestbodysize"] == 33554432
    assert [listener.fd for listener in config.http] == [3, 5]


@pytest.mark.parametrize("kind", [ConflictError, NotReadyError, UsageError])
def test_errors_are_received_as_they_were_sent(kind: type[Any]) -> None:
    sent = supervisor_protocol.ErrorMessage.from_error(kind("what", hint="do", detail="traceback"))
    received = sent.to_error()
    assert type(received) is kind
    assert (received.message, received.hint, received.detail) == ("what", "do", "traceback")


def test_an_unknown_error_is_received_as_a_platform_error() -> None:
    assert type(supervisor_protocol.ErrorMessage("newer", "what").to_error()) is PlatformError
