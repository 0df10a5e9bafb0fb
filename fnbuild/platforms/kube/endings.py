"""How containers end, in words; how they are refused before they exist."""

from __future__ import annotations

import contextlib
import re
import signal
from dataclasses import replace

from fnbuild.platforms.kube.findings import Finding
from fnbuild.spec.types import Raw

_EXECUTED = re.compile(r'exec: "([^"]+)": (.+?)(?:: unknown)?$')
_DAEMON = re.compile(
    r"^.*?(?:OCI runtime create failed: |Error response from daemon: )+(?:runc create failed: )?"
    r"(?:unable to start container process: )?"
)
_OUT_OF_MEMORY = "out of memory"
_MEMORY_HINT = "raise spec.resources.limits.memory, or use fewer workers"
_NOT_STARTED = ("ContainerCannotRun", "StartError", "RunContainerError", "CreateContainerError")


def ended(state: Raw, container: Raw) -> Finding:
    """How a container came to its end, behind its name; `container` is its part of the pod."""
    status = int(state.get("exitCode") or 0)
    if state.get("reason") == "OOMKilled":
        return Finding(
            f"was killed, for it ran {_OUT_OF_MEMORY} ({_memory(container)})", _MEMORY_HINT
        )
    if state.get("reason") in _NOT_STARTED or "OCI runtime" in str(state.get("message")):
        return not_started(str(state.get("message") or ""))
    if status in (126, 127):
        return Finding(f"ended with exit status {status}: its program could not be run")
    if status > 128:
        with contextlib.suppress(ValueError):
            return Finding(f"was ended by {signal.Signals(status - 128).name}")
    return Finding(f"ended with exit status {status}")


def out_of_memory(found: Finding, container: Raw) -> Finding:
    """What a processor says of a worker that was killed, with the limit that was reached."""
    if _OUT_OF_MEMORY not in found.text:
        return found
    return replace(found, text=f"{found.text} ({_memory(container)})", hint=_MEMORY_HINT)


def not_started(message: str) -> Finding:
    """What the container runtime says of a container that could not be started."""
    if found := _EXECUTED.search(message):
        program, why = found.groups()
        absent = "no such file" in why or "not found" in why
        return Finding(
            f"did not start: the image has no program {program}"
            if absent
            else f"did not start: {program}: {why}",
            "build it with `fnbuild build`, or deploy from the folder"
            if program.endswith("processor")
            else "",
        )
    return Finding(f"did not start: {_DAEMON.sub('', message).removesuffix(': unknown')}")


def _memory(container: Raw) -> str:
    """Which memory ran out, to stand in brackets."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    if not limit:
        return "it has no limit, so the node has no more"
    return f"spec.resources.limits.memory lets it have {limit} in all"
