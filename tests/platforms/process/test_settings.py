"""What a configuration means for a processor, and how errors travel over the control socket."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import (
    ConflictError,
    InputError,
    NotReadyError,
    PlatformError,
    UsageError,
)
from fnbuild.platforms.process import protocol, settings
from fnbuild.runtime.config import ProcessorConfig
from fnbuild.spec.reader import from_raw
from fnbuild.spec.rules import complete
from fnbuild.spec.types import Function


def function(**spec: Any) -> Function:
    base = {"handler": "main:handler", "runtime": "python:3.11"}
    return complete(from_raw({"metadata": {"name": "f"}, "spec": base | spec}, "test"))


def with_policy(policy: Any) -> Function:
    return function(platform={"attributes": {"restartPolicy": policy}})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ("always", 0)),
        ({"name": "unless-stopped"}, ("unless-stopped", 0)),
        ({"name": False}, ("no", 0)),
        ({"name": "on-failure", "maximumRetryCount": 3}, ("on-failure", 3)),
        ("always", ("always", 0)),
    ],
)
def test_restart_policies(given: Any, expected: tuple[str, int]) -> None:
    found = settings.restart_policy(with_policy(given))
    assert (found.name, found.retries) == expected


@pytest.mark.parametrize(
    "given", [{"name": "sometimes"}, {"name": "always", "maximumRetryCount": -1}]
)
def test_restart_policies_that_do_not_exist(given: Any) -> None:
    with pytest.raises(InputError, match="restartPolicy"):
        settings.restart_policy(with_policy(given))


def test_when_a_restart_policy_allows_another_start() -> None:
    assert settings.RestartPolicy("always").allows(1000, 0)
    assert not settings.RestartPolicy("no").allows(0, 1)
    limited = settings.RestartPolicy("on-failure", 2)
    assert [limited.allows(attempt, 1) for attempt in range(4)] == [True, True, False, False]
    assert not limited.allows(0, 0)
    assert settings.RestartPolicy("on-failure").allows(1000, -9)


def test_the_processor_accepts_its_configuration() -> None:
    made = settings.processor_config(
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
        settings.Place(4, "/code", "/usr/bin/python3", "/sdk"),
    )
    made["listeners"] = {"http": [{"fd": 3}, {"fd": 5}], "admin": {"fd": 4}, "control": "/c.sock"}
    config = ProcessorConfig(made)
    assert config.function["revision"] == 4
    assert (config.event_timeout, config.readiness_timeout) == (90.0, 7.0)
    assert config.env == {"A": "1"}
    assert config.log_level == "info"
    assert list(config.triggers) == ["web", "timer"]
    timer = config.triggers["timer"]
    assert (timer.allocator, timer.attributes) == ("mine", {"interval": 90.0})
    trigger = config.http_trigger
    assert trigger is not None
    assert trigger.batch == (4, 0.02)
    assert timer.batch is None
    assert (trigger.num_workers, trigger.availability_timeout) == (3, 0.0)
    assert trigger.termination_timeout == 2.0
    assert trigger.attributes["maxRequestBodySize"] == 33554432
    assert [one.fd for one in config.http] == [3, 5]


def test_numbers_of_a_configuration() -> None:
    assert settings.wants_gpu(function(resources={"limits": {"nvidia.com/gpu": 1}}))
    assert not settings.wants_gpu(function(resources={"limits": {"nvidia.com/gpu": 0}}))
    assert settings.wanted_port(function()) == 0


@pytest.mark.parametrize("kind", [ConflictError, NotReadyError, UsageError])
def test_errors_arrive_as_they_were_sent(kind: type[Any]) -> None:
    sent = protocol.Failure.of(kind("what", hint="do", detail="traceback"))
    got = sent.error()
    assert type(got) is kind
    assert (got.message, got.hint, got.detail) == ("what", "do", "traceback")


def test_an_error_of_an_unknown_kind_arrives_too() -> None:
    assert type(protocol.Failure("newer", "what").error()) is PlatformError
