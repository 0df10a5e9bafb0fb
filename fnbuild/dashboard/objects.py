"""Functions as the dashboard's API shows them: Nuclio's object, whole for CVAT, without secrets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.dashboard.listed import Listed
from fnbuild.deploy.pipeline import export_configuration
from fnbuild.deploy.projects import PROJECT_LABEL, project_of
from fnbuild.platforms import FunctionState, api_objects
from fnbuild.platforms.settings import gpu_limit
from fnbuild.spec.secrets import for_readers, hidden, hiding, without_values
from fnbuild.spec.types import Function, Raw, to_dict

_NUCLIOS: dict[FunctionState, FunctionState] = {"standby": "ready", "stopped": "unhealthy"}
"""Nuclio's API knows `standby` as `ready` with spec.disable, and nothing that is down on purpose.
Its clients wait for `ready`, `error` or `unhealthy`, and for ever where none of them comes."""


def function_object(listed: Listed, *, values: bool, logs: Sequence[Raw] = ()) -> Raw:
    """Metadata, spec and status. What CVAT or another client reads without asking is always there:
    labels with the project, annotations, description, eventTimeout, state and httpPort.

    `values` is True for clients with the write role; see `redacted`. `logs` are lines of the newest
    change in Nuclio's format: `{time (ms), level, message, name}`.
    """
    deployment = listed.deployment
    raw = redacted(api_objects.function_object(deployment), values=values)
    metadata, spec = raw.setdefault("metadata", {}), raw.setdefault("spec", {})
    metadata["name"] = listed.name
    metadata.setdefault("namespace", deployment.function.metadata.namespace)
    if deployment.revision:
        # What a client sends back with a change, so that it undoes nobody else's.
        metadata["resourceVersion"] = str(deployment.revision)
    labels = metadata.setdefault("labels", {})
    labels.setdefault(PROJECT_LABEL, project_of(deployment.function))
    metadata.setdefault("annotations", {})
    spec.setdefault("description", "")
    spec.setdefault("eventTimeout", "")
    raw["status"] = _status(listed, raw["status"], logs)
    return raw


def _status(listed: Listed, status: Raw, logs: Sequence[Raw]) -> Raw:
    """Nuclio's fields, and ours behind them."""
    deployment = listed.deployment
    status |= {
        "state": _NUCLIOS.get(listed.state, listed.state),
        "detailedState": listed.state,
        "message": without_secret_values(listed.message, deployment.function),
    }
    status.setdefault("internalInvocationUrls", [])
    status.setdefault("externalInvocationUrls", [])
    if details := status.get("details"):
        status["details"] = {key: value for key, value in details.items() if not _is_path(value)}
    if image := deployment.details.get("image"):
        status["containerImage"] = image
    if logs:
        status["logs"] = list(logs)
    available, wanted = deployment.replicas
    status["replicas"] = {"available": available, "wanted": wanted}
    status["gpu"] = gpu_limit(deployment.function)
    status["url"] = deployment.url
    if listed.activated:
        status["activated"] = listed.activated
    if deployment.warnings:
        status["warnings"] = list(deployment.warnings)
    if listed.set_aside:
        status["setAside"] = listed.set_aside
    if listed.absence:
        status["notes"] = [f"not in CVAT's list: {listed.absence}"]
    if (one := listed.operation) is not None:
        status["operation"] = {
            "id": one.id,
            "action": one.action,
            "state": one.state,
            "started": one.started,
            "message": one.message,
            # The active one at its end.
            "revision": one.revision,
        }
    return status


def without_secret_values(message: str, function: Function) -> str:
    """Return a message about a function, such as a traceback, without its secrets."""
    return hidden(message, hiding(to_dict(function))) if message else ""


def _is_path(value: Any) -> bool:
    """Whether it says where something lies on this machine, which is no client's affair."""
    return isinstance(value, str) and os.path.isabs(value)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The content of an export: `values` of variables that are not secret, and `secrets`.

    `cleanup_spec` leaves the registry out.
    """

    values: bool = False
    secrets: bool = False
    cleanup_spec: bool = False


def exported(listed: Listed, options: ExportOptions) -> Raw:
    """Metadata and spec as nuctl exports them, to be imported elsewhere."""
    deployment = listed.deployment
    image = str(deployment.details.get("pinned") or deployment.details.get("image") or "")
    raw = export_configuration(
        deployment.function,
        state=deployment.state,
        image=image,
        cleanup_spec=options.cleanup_spec,
    )
    return raw if options.secrets else redacted(raw, values=options.values)


def redacted(raw: Raw, *, values: bool) -> Raw:
    """Return a function's plain values without passwords.

    Without `values`, for clients without the write role, the values of all variables are left out.
    With it, only values that look like secrets or are declared as such are left out.
    """
    return without_values(for_readers(raw), secrets_only=values)
