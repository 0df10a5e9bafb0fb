"""Asking the processor in a container how it is.

Over the container's own address where that can be reached, which takes a millisecond; through the
engine where not.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable

import msgspec

from fnbuild.platforms import Statistics
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.inventory import Container
from fnbuild.platforms.processor_status import (
    ADMIN_PORT,
    ProcessorStatus,
    decode_status,
    parse_metrics,
)

PROGRAM = "/usr/local/bin/processor"
_PATIENCE = 2.0


def status_of(engine: Engine, container: Container) -> ProcessorStatus | None:
    """What the processor of a running container says; None when it is none of fnbuild's, or does
    not answer.
    """
    for address in filter(engine.reaches, filter(None, container.networks.values())):
        if (status := decoded(_over_http(address, "/status"))) is not None:
            return status
    ran = engine.execute(container.id, [PROGRAM, "--status"])
    return decoded(ran.out) if ran is not None else None


def statistics_of(engine: Engine, addresses: Iterable[str]) -> Statistics | None:
    """What the processor of a container counts; None where its addresses cannot be reached."""
    for address in filter(engine.reaches, addresses):
        if body := _over_http(address, "/metrics"):
            return parse_metrics(body.decode(errors="replace"))
    return None


def _over_http(address: str, path: str) -> bytes:
    """The answer of the processor at that address; nothing when there is none."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(address, ADMIN_PORT, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read()
    return b""


def decoded(body: bytes) -> ProcessorStatus | None:
    """What a processor has answered; None for anything else."""
    try:
        return decode_status(body)
    except msgspec.MsgspecError:
        return None
