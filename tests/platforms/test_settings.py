"""The meaning of a configuration on platforms that run fnbuild's processors."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_defaults
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import settings
from fnbuild.platforms.settings import warnings_without_cluster


def function(**spec: Any) -> Function:
    base = {"handler": "main:handler", "runtime": "python:3.11"}
    return with_defaults(
        function_from_dict({"metadata": {"name": "f"}, "spec": base | spec}, "test")
    )


def with_policy(policy: Any) -> Function:
    return function(platform={"attributes": {"restartPolicy": policy}})


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, ("always", 0)),
        ({"name": "unless-stopped"}, ("unless-stopped", 0)),
        ({"name": False}, ("no", 0)),
        ({"name": "on-failure", "maximumRetryCount": 3}, ("on-failure", 3)),
        ("always", ("always", 0)),
    ],
)
def test_restart_policies_are_read(policy: Any, expected: tuple[str, int]) -> None:
    parsed = settings.restart_policy(with_policy(policy))
    assert (parsed.name, parsed.retries) == expected


@pytest.mark.parametrize(
    "policy", [{"name": "sometimes"}, {"name": "always", "maximumRetryCount": -1}]
)
def test_unknown_restart_policies_are_refused(policy: Any) -> None:
    with pytest.raises(InputError, match="restartPolicy"):
        settings.restart_policy(with_policy(policy))


def test_a_restart_policy_limits_restarts() -> None:
    assert settings.RestartPolicy("always").allows(1000, 0)
    assert not settings.RestartPolicy("no").allows(0, 1)
    limited = settings.RestartPolicy("on-failure", 2)
    assert [limited.allows(attempt, 1) for attempt in range(4)] == [True, True, False, False]
    assert not limited.allows(0, 0)
    assert settings.RestartPolicy("on-failure").allows(1000, -9)


def test_gpu_limit_and_port_of_a_configuration() -> None:
    assert settings.needs_gpu(function(resources={"limits": {"nvidia.com/gpu": 1}}))
    assert not settings.needs_gpu(function(resources={"limits": {"nvidia.com/gpu": 0}}))
    assert settings.gpu_limit(function(resources={"limits": {"nvidia.com/gpu": "2"}})) == 2
    assert settings.requested_port(function()) == 0


def test_the_flag_overrides_the_listen_setting() -> None:
    assert settings.listen_setting(function()) == "loopback"
    assert settings.listen_setting(function(), "loopback,docker") == "loopback,docker"
    assert settings.listen_setting(settings.with_listen(function(), "10.0.0.1")) == "10.0.0.1"


def warnings_for(**spec: Raw) -> tuple[str, ...]:
    return warnings_without_cluster(function_from_dict({"spec": spec}, "test"), "process", {}, ())


def test_the_flush_period_of_a_stream_is_reported() -> None:
    web = {"kind": "http", "attributes": {"streamingFlushPeriod": "100ms"}}
    (text,) = warnings_for(triggers={"web": web})
    key = "triggers.web.attributes.streamingFlushPeriod"
    assert text == f"without effect on the process platform: {key}"


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_flush_period_is_not_reported(value: object) -> None:
    web = {"kind": "http", "attributes": {"streamingFlushPeriod": value, "port": 8080}}
    assert warnings_for(triggers={"web": web}) == ()


def test_hardening_of_pods_is_reported() -> None:
    (text,) = warnings_for(platform={"attributes": {"hardened": True}})
    assert text == "without effect on the process platform: platform.attributes.hardened"


def test_unused_attributes_of_http_triggers_are_reported() -> None:
    web = {"kind": "http", "attributes": {"reduceMemoryUsage": True}}
    (text,) = warnings_for(triggers={"web": web})
    assert text.endswith("triggers.web.attributes.reduceMemoryUsage")
