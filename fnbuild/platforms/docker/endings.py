"""How containers end, in words."""

from __future__ import annotations

import contextlib
import signal

from fnbuild.spec.types import Function, Raw


def ended(state: Raw, function: Function) -> str:
    """How a container came to its end, behind the words "the container"."""
    status = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        return f"was killed, for it ran out of memory ({memory(function)})"
    if error := state.get("Error"):
        return f"did not start: {error}"
    if status in (126, 127):
        return f"ended with exit status {status}: its program could not be run"
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with exit status {status}"


def memory(function: Function) -> str:
    """Which memory ran out, to stand in brackets."""
    limit = function.spec.resources.limits.get("memory")
    if not limit:
        return "it has no limit, so the machine has no more"
    return f"spec.resources.limits.memory lets it have {limit} in all"
