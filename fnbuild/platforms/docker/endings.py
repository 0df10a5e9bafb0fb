"""How containers end, in words."""

from __future__ import annotations

import contextlib
import math
import signal

from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Function, Raw


def ended(state: Raw, function: Function) -> str:
    """How a container came to its end, behind the words "the container"."""
    status = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        return f"was killed: {memory(function)}"
    if error := state.get("Error"):
        return f"did not start: {error}"
    if status in (126, 127):
        return f"ended with exit status {status}: its program could not be run"
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with exit status {status}"


def memory(function: Function) -> str:
    """Which memory ran out."""
    limit = function.spec.resources.limits.get("memory")
    if not limit:
        return "it ran out of memory, and the machine has no more"
    mebibytes = math.floor(quantity(limit) / 2**20)
    return (
        f"it ran out of memory: spec.resources.limits.memory lets it have {limit}"
        f" ({mebibytes} MiB), the model included"
    )
