"""Asking the processor in a container how it is.

Over the container's own address where that can be reached, which takes a millisecond; through the
engine where not.
"""

from __future__ import annotations

import contextlib
import http.client

import msgspec

from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.processors import ADMIN_PORT, Status

PROGRAM = "/usr/local/bin/processor"
_PATIENCE = 2.0


def status_of(engine: Engine, container: Container) -> Status | None:
    """What the processor of a running container says; None when it is none of fnbuild's, or does
    not answer.
    """
    if engine.local:
        for address in filter(None, container.networks.values()):
            if (status := _over_http(address)) is not None:
                return status
    ran = engine.execute(container.id, [PROGRAM, "--status"])
    return decoded(ran.out) if ran is not None else None


def _over_http(address: str) -> Status | None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(address, ADMIN_PORT, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/status")
            return decoded(connection.getresponse().read())
    return None


def decoded(body: bytes) -> Status | None:
    """What a processor has answered; None for anything else."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        return None
