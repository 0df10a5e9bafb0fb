"""Functions as the dashboard's API shows them: Nuclio's object, whole for CVAT, without secrets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fnbuild.dashboard.listed import Listed
from fnbuild.deploy import export
from fnbuild.membership import PROJECT_LABEL, project_of
from fnbuild.platforms import State, objects
from fnbuild.platforms.settings import gpu_limit
from fnbuild.spec.secrets import for_readers, has_credentials, looks_secret
from fnbuild.spec.types import Raw

_NUCLIOS: dict[State, State] = {"standby": "ready", "stopped": "unhealthy"}
"""Nuclio's API knows `standby` as `ready` with spec.disable, and nothing that is down on purpose.
Its clients wait for `ready`, `error` or `unhealthy`, and for ever where none of them comes."""

REDACTED = "[redacted]"
"""Stands for the value of an environment variable that looks like a secret."""


def function_object(listed: Listed, *, logs: Sequence[Raw] = ()) -> Raw:
    """Metadata, spec and status. What CVAT or another client reads without asking is always there:
    labels with the project, annotations, description, eventTimeout, state and httpPort.

    `logs` are lines of the newest change, as Nuclio has them: `{time (ms), level, message, name}`.
    """
    deployment = listed.deployment
    raw = redacted(objects.function_object(deployment))
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
        "message": listed.message,
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
        }
    return status


def _is_path(value: Any) -> bool:
    """Whether it says where something lies on this machine, which is no client's affair."""
    return isinstance(value, str) and os.path.isabs(value)


def exported(listed: Listed, *, cleanup_spec: bool = False) -> Raw:
    """Metadata and spec as nuctl exports them, to be imported elsewhere."""
    deployment = listed.deployment
    image = str(deployment.details.get("pinned") or deployment.details.get("image") or "")
    raw = export(
        deployment.function, state=deployment.state, image=image, cleanup_spec=cleanup_spec
    )
    return redacted(raw)


def redacted(raw: Raw) -> Raw:
    """A function's plain values without passwords, and without what variables that look like
    secrets hold, by their names or as addresses with a password."""
    raw = for_readers(raw)
    for owner in _with_variables(raw.get("spec") or {}):
        owner["env"] = [_variable(one) for one in owner["env"]]
    return raw


def _with_variables(spec: Raw) -> list[Raw]:
    """The parts of a spec that have environment variables, each a copy in its place."""
    found = [spec]
    for key in ("sidecars", "initContainers"):
        if isinstance(spec.get(key), list):
            spec[key] = [dict(one) if isinstance(one, dict) else one for one in spec[key]]
            found += [one for one in spec[key] if isinstance(one, dict)]
    return [one for one in found if isinstance(one.get("env"), list)]


def _variable(one: Any) -> Any:
    if not isinstance(one, dict) or not one.get("value"):
        return one
    secret = looks_secret(str(one.get("name"))) or has_credentials(str(one["value"]))
    return {**one, "value": REDACTED} if secret else one
