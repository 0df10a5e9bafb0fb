"""The machine's address as containers reach it, in the words of engines of several kinds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fnbuild.platforms.docker import ports
from fnbuild.platforms.docker.engine import Engine


def engine(*configs: dict[str, str], desktop: bool = False) -> Engine:
    """One that is reached from a container, so that its machine's addresses are not ours."""
    networks = {"bridge": {"IPAM": {"Config": list(configs)}}}
    found: Any = SimpleNamespace(
        is_docker_desktop=desktop, is_local=False, networks=lambda: networks
    )
    return cast(Engine, found)


@pytest.mark.parametrize(
    ("configs", "gateway"),
    [
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}], "172.17.0.1"),
        ([{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.254"}], "10.9.0.254"),
        # Before the engine's first restart.
        ([{"Subnet": "172.17.0.0/16"}], "172.17.0.1"),
        ([{"Subnet": "10.9.8.0/22"}], "10.9.8.1"),
        ([{"Subnet": "fd00::/80"}], None),
        ([{}], None),
        ([], None),
    ],
)
def test_gateways(configs: list[dict[str, str]], gateway: str | None) -> None:
    assert ports.gateway_address(engine(*configs)) == gateway
    assert ports.gateway_address(engine(*configs, desktop=True)) is None
