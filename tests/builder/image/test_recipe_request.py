"""The options of a build request."""

from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.image.engine import BuildRequest
from fnbuild.builder.image.recipe import create_request
from fnbuild.errors import UsageError
from fnbuild.function.types import Build


def asked(**values: Any) -> BuildRequest:
    return create_request(Build(**values), Path("context"), Path("file"))


def test_time_and_arguments() -> None:
    assert asked().timeout == 3600.0
    assert asked(build_timeout_seconds=0).timeout is None
    assert asked(build_timeout_seconds=5).timeout == 5.0
    assert asked(args={"A": "1", "B": ""}).args == {"A": "1"}
    assert asked(flags=["--squash"]).flags == ("--squash",)


def test_the_network_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUCLIO_DOCKER_BUILD_NETWORK", raising=False)
    assert (asked().network, asked().pull) == ("default", True)
    assert (asked(offline=True).network, asked(offline=True).pull) == ("none", False)
    assert asked(no_base_images_pull=True).pull is False
    monkeypatch.setenv("NUCLIO_DOCKER_BUILD_NETWORK", "host")
    assert asked().network == "host"
    monkeypatch.setenv("NUCLIO_DOCKER_BUILD_NETWORK", "moon")
    with pytest.raises(UsageError, match="moon"):
        asked()
