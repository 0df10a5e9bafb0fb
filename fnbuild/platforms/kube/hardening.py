"""Security contexts of pods and containers: what is always there, and what `--hardened` adds.

All of it gives way to what a function says itself in `spec.securityContext`, or a sidecar in its
own.
"""

from __future__ import annotations

from fnbuild.spec.types import Function, Raw

_NOBODY = 65532
"""The user that images without root use by custom (distroless: `nonroot`)."""


def hardened(function: Function) -> bool:
    """`spec.platform.attributes.hardened`, which the flag `--hardened` sets."""
    return str(function.spec.platform.attributes.get("hardened")).lower() == "true"


def of_pod(function: Function) -> Raw:
    context: Raw = {"seccompProfile": {"type": "RuntimeDefault"}}
    if hardened(function):
        context |= {"runAsNonRoot": True, "runAsUser": _NOBODY}
    given = function.spec.security_context or {}
    if given.get("runAsUser") == 0:
        context.pop("runAsNonRoot", None)
    return context | given


def of_function(function: Function) -> Raw:
    """Of the function's own container."""
    read_only = {"readOnlyRootFilesystem": True} if hardened(function) else {}
    return _least(function) | read_only


def of_other(function: Function, container: Raw) -> Raw:
    """Of an init container or a sidecar. What needs privileges would be refused without them."""
    given: Raw = container.get("securityContext") or {}
    added = (given.get("capabilities") or {}).get("add") or []
    if given.get("privileged") or "SYS_ADMIN" in added or "CAP_SYS_ADMIN" in added:
        return given
    return _least(function) | given


def _least(function: Function) -> Raw:
    # No function needs raw sockets, which could forge packets; programs that run as root may need
    # the other capabilities.
    dropped = ["ALL"] if hardened(function) else ["NET_RAW"]
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": dropped}}
