"""The options of a build request."""

from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.image.engine import BuildRequest
from fnbuild.builder.image.recipe import create_request
from fnbuild.errors import UsageError
from fnbuild.function.types import Build


def request_of(**values: Any) -> BuildRequest:
    return create_request(Build(**values), Path("context"), Path("file"))


def test_time_and_arguments() -> None:
    assert request_of().timeout == 3600.0
    assert request_of(build_timeout_seconds=0).timeout is None
    assert request_of(build_timeout_seconds=5).timeout == 5.0
    assert request_of(args={"A": "1", "B": ""}).args == {"A": "1"}
    assert request_of(flags=["--squash"]).flags == ("--squash",)


def test_the_network_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUCLIO_DOCKER_BUILD_NETWORK", raising=False)
    assert (request_of().network, request_of().pull) == ("default", True)
    assert (request_of(offline=True).network, request_of(offline=True).pull) == ("none", False)
    assert request_of(no_base_images_pull=True).pull is False
    monkeypatch.setenv("NUCLIO_DOCKER_BUILD_NETWORK", "host")
    assert request_of().network == "host"
    monkeypatch.setenv("NUCLIO_DOCKER_BUILD_NETWORK", "moon")
    with pytest.raises(UsageError, match="moon"):
        request_of()
