"""What a configuration means on every platform that runs processors itself."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.platforms import settings
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


def test_numbers_of_a_configuration() -> None:
    assert settings.wants_gpu(function(resources={"limits": {"nvidia.com/gpu": 1}}))
    assert not settings.wants_gpu(function(resources={"limits": {"nvidia.com/gpu": 0}}))
    assert settings.gpu_limit(function(resources={"limits": {"nvidia.com/gpu": "2"}})) == 2
    assert settings.wanted_port(function()) == 0


def test_words_of_listening() -> None:
    assert settings.listen_words(function()) == "loopback"
    assert settings.listen_words(function(), "loopback,docker") == "loopback,docker"
    assert settings.listen_words(settings.with_listen(function(), "10.0.0.1")) == "10.0.0.1"
