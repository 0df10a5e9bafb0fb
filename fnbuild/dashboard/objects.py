"""Functions as JSON objects: redacted for clients, and restored from what clients send back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.dashboard.inventory import FunctionEntry
from fnbuild.deploy.pipeline import export_configuration
from fnbuild.deploy.projects import PROJECT_LABEL, project_of
from fnbuild.errors import UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import (
    REDACTED,
    mask_values,
    mask_variables,
    redact_for_readers,
    secret_values,
)
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.platforms import FunctionState, api_objects
from fnbuild.platforms.settings import gpu_limit

_NUCLIO_STATES: dict[FunctionState, FunctionState] = {"standby": "ready", "stopped": "unhealthy"}
"""Nuclio's API knows `standby` as `ready` with spec.disable, and nothing that is down on purpose.
Its clients wait for `ready`, `error` or `unhealthy`, and for ever where none of them comes."""


def function_object(listed: FunctionEntry, *, values: bool, logs: Sequence[Raw] = ()) -> Raw:
    """Metadata, spec and status. What CVAT or another client reads without asking is always there:
    labels with the project, annotations, description, eventTimeout, state and httpPort.

    `values` is True for clients with the write role; see `redacted`. `logs` are lines of the newest
    change in Nuclio's format: `{time (ms), level, message, name}`.
    """
    deployment = listed.deployment
    raw = redact_values(api_objects.function_object(deployment), values=values)
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
    raw["status"] = _status_object(listed, raw["status"], logs)
    return raw


def _status_object(listed: FunctionEntry, status: Raw, logs: Sequence[Raw]) -> Raw:
    """Nuclio's fields, and ours behind them."""
    deployment = listed.deployment
    status |= {
        "state": _NUCLIO_STATES.get(listed.state, listed.state),
        "detailedState": listed.state,
        "message": hide_secrets(listed.message, deployment.function),
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


def hide_secrets(message: str, function: Function) -> str:
    """Return a message about a function, such as a traceback, without its secrets."""
    return mask_values(message, secret_values(to_dict(function))) if message else ""


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


def exported_object(listed: FunctionEntry, options: ExportOptions) -> Raw:
    """Metadata and spec as nuctl exports them, to be imported elsewhere."""
    deployment = listed.deployment
    image = str(deployment.details.get("pinned") or deployment.details.get("image") or "")
    raw = export_configuration(
        deployment.function,
        state=deployment.state,
        image=image,
        cleanup_spec=options.cleanup_spec,
    )
    return raw if options.secrets else redact_values(raw, values=options.values)


def redact_values(raw: Raw, *, values: bool) -> Raw:
    """Return a function's plain values without passwords.

    Without `values`, for clients without the write role, the values of all variables are left out.
    With it, only values that look like secrets or are declared as such are left out.
    """
    return mask_variables(redact_for_readers(raw), secrets_only=values)


def restore_secrets(asked: Function, stored: Function | None) -> Function:
    """Return the requested function with stored secrets in place of unchanged masks.

    Readers see more masks than writers; both kinds are replaced. Raises `UsageError` for
    "[redacted]" if no value is stored.
    """
    before = to_dict(stored) if stored is not None else {}
    raw = _restore(to_dict(asked), before, redact_values(before, values=False), "")
    return function_from_dict(raw, asked.metadata.name)


def _restore(asked: Any, stored: Any, shown: Any, place: str) -> Any:
    if isinstance(asked, dict):
        stored = stored if isinstance(stored, dict) else {}
        shown = shown if isinstance(shown, dict) else {}
        if stored.get("valueFrom") and asked.get("value"):
            return _restore_reference(asked, stored)
        # What has nothing else in it is shown empty, and comes back as nothing.
        hidden = {
            key: value
            for key, value in stored.items()
            if key not in asked and (key not in shown or (value and not shown[key]))
        }
        return hidden | {
            key: _restore(value, stored.get(key), shown.get(key), f"{place}.{key}")
            for key, value in asked.items()
        }
    if isinstance(asked, list):
        return _restore_list(asked, stored, shown, place)
    if stored is not None and asked == shown != stored:
        return stored
    if asked == REDACTED:
        raise UsageError(
            f"{place.removeprefix('.')} is {REDACTED}, and nothing is stored that this stands for",
            hint="send the value itself, or leave it out",
        )
    return asked


def _restore_reference(asked: Raw, stored: Raw) -> Raw:
    """Return a variable that is stored as a reference to the function's own Secret.

    Clients see it as a masked value. The reference is kept unless another value is sent.
    """
    if asked["value"] != REDACTED:
        return asked
    rest = {key: value for key, value in asked.items() if key != "value"}
    return {**rest, "valueFrom": stored["valueFrom"]}


def _restore_list(asked: list[Any], stored: Any, shown: Any, place: str) -> Any:
    """Its things as they are stored: by their names, and what has none as it was shown."""
    stored = list(stored) if isinstance(stored, list) else []
    shown = shown if isinstance(shown, list) else []
    if asked == shown:
        return stored
    before, seen = _by_name(stored), _by_name(shown)
    made = []
    for one in asked:
        name = _item_name(one)
        if not name and one in shown:
            made.append(stored[shown.index(one)])
        else:
            made.append(_restore(one, before.get(name), seen.get(name), f"{place}.{name}"))
    return made


def _by_name(values: Any) -> dict[str, Any]:
    """Things of a list by their names, as variables, containers and volumes have them."""
    return {
        _item_name(one): one
        for one in (values if isinstance(values, list) else [])
        if _item_name(one)
    }


def _item_name(one: Any) -> str:
    if not isinstance(one, dict):
        return ""
    volume = one.get("volume")
    name = volume.get("name") if isinstance(volume, dict) else one.get("name")
    return name if isinstance(name, str) else ""
