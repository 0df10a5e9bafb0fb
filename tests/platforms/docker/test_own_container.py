"""The container of the current process, and the address at which it reaches functions.

The tests of the dashboard's image try the connection itself.
"""

from __future__ import annotations

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.docker import engine

ID = "a60f75e378f3873949b6e20c02d16760ec976fd6b511e7b437453ad939704c59"
MACHINE = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
INSIDE = (
    "222 210 0:51 / / rw,relatime - overlay overlay rw\n"
    f"239 222 254:0 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 x rw\n"
)
# A process of the machine with a mount of the engine's folder is not in a container.
OUTSIDE = f"{MACHINE}30 22 254:0 /docker/containers/{ID}/mounts/shm /mnt/shm rw - ext4 x rw\n"

HOME: Raw = {
    "NetworkSettings": {
        "Networks": {
            "cvat_cvat": {"IPAddress": "172.18.0.4", "IPPrefixLen": 16},
            "later": {"IPAddress": "", "IPPrefixLen": 0},
        }
    }
}
ON_THE_HOST: Raw = {"NetworkSettings": {"Networks": {"host": {"IPAddress": "", "IPPrefixLen": 0}}}}
PORTS = ("127.0.0.1:27001", "172.17.0.1:27001")


@pytest.mark.parametrize(
    ("mounts", "expected"), [(MACHINE, ""), (INSIDE, ID), (OUTSIDE, ""), ("", ""), ("short\n", "")]
)
def test_the_own_container_is_found_by_its_mounts(mounts: str, expected: str) -> None:
    assert engine.own_container_id(mounts) == expected


@pytest.mark.parametrize(
    ("home", "internal", "external", "expected"),
    [
        (HOME, ["172.17.0.9:8080", "172.18.0.9:8080"], PORTS, "172.18.0.9:8080"),
        (HOME, ["172.17.0.9:8080"], PORTS, "172.17.0.1:27001"),
        (HOME, ["172.17.0.9:8080"], PORTS[:1], ""),
        (HOME, [], [], ""),
        (ON_THE_HOST, ["172.17.0.9:8080"], PORTS, "172.17.0.9:8080"),
        ({}, ["172.17.0.9:8080"], PORTS, "172.17.0.1:27001"),
    ],
)
def test_the_reachable_address_of_a_function(
    home: Raw, internal: list[str], external: list[str], expected: str
) -> None:
    assert engine.reachable_address(home, internal, external) == expected
