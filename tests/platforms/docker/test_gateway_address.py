"""The address at which containers reach the machine, as reported by several engines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fnbuild.platforms.docker import ports
from fnbuild.platforms.docker.engine import Engine


def engine(*configs: dict[str, str], desktop: bool = False) -> Engine:
    """An engine that is used from a container, whose addresses are not those of the machine."""
    networks = {"bridge": {"IPAM": {"Config": list(configs)}}}
    fake: Any = SimpleNamespace(
        is_docker_desktop=desktop, is_local=False, networks=lambda: networks
    )
    return cast(Engine, fake)


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
def test_the_gateway_is_read_from_the_network_configuration(
    configs: list[dict[str, str]], gateway: str | None
) -> None:
    assert ports.gateway_address(engine(*configs)) == gateway
    assert ports.gateway_address(engine(*configs, desktop=True)) is None
