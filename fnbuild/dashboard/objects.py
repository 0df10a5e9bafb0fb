"""Functions as JSON objects: redacted for clients, and restored from what clients send back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.deploy.exports import export_configuration
from fnbuild.errors import UsageError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.secrets import (
    REDACTED,
    mask_values,
    mask_variables,
    redact_except_variables,
    secret_values,
)
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.names import PROJECT_LABEL
from fnbuild.platforms import FunctionState, api_objects
from fnbuild.platforms.settings import gpu_limit

_NUCLIO_STATES: dict[FunctionState, FunctionState] = {"standby": "ready", "stopped": "unhealthy"}
"""States that Nuclio's API does not have: `standby` is `ready` with spec.disable there.

Its clients wait for `ready`, `error` or `unhealthy`, forever if none of them comes.
"""


def function_object(entry: FunctionEntry, *, show_values: bool, logs: Sequence[Raw] = ()) -> Raw:
    """Return metadata, spec and status.

    Fields that CVAT and other clients read without a check always exist: labels with the project,
    annotations, description, eventTimeout, state and httpPort.

    `show_values` is True for clients with the write role; see `redact_values`. `logs` are lines of
    the newest operation in Nuclio's format: `{time (ms), level, message, name}`.
    """
    deployment = entry.deployment
    raw = redact_values(api_objects.function_object(deployment), show_values=show_values)
    metadata, spec = raw.setdefault("metadata", {}), raw.setdefault("spec", {})
    metadata["name"] = entry.name
    metadata.setdefault("namespace", deployment.function.metadata.namespace)
    if deployment.revision:
        # Clients send it back with a change, so that the change overwrites no other one.
        metadata["resourceVersion"] = str(deployment.revision)
    labels = metadata.setdefault("labels", {})
    labels.setdefault(PROJECT_LABEL, deployment.function.project)
    metadata.setdefault("annotations", {})
    spec.setdefault("description", "")
    spec.setdefault("eventTimeout", "")
    raw["status"] = _status_object(entry, raw["status"], logs)
    return raw


def _status_object(entry: FunctionEntry, status: Raw, logs: Sequence[Raw]) -> Raw:
    """Return Nuclio's fields, followed by ours."""
    deployment = entry.deployment
    status |= {
        "state": _NUCLIO_STATES.get(entry.state, entry.state),
        "detailedState": entry.state,
        "message": hide_secrets(entry.message, deployment.function),
    }
    status.setdefault("internalInvocationUrls", [])
    status.setdefault("externalInvocationUrls", [])
    if details := status.get("details"):
        status["details"] = {key: value for key, value in details.items() if not _is_path(value)}
    if deployment.image is not None and deployment.image.reference:
        status["containerImage"] = deployment.image.reference
    if logs:
        status["logs"] = list(logs)
    available, wanted = deployment.replicas
    status["replicas"] = {"available": available, "wanted": wanted}
    status["gpu"] = gpu_limit(deployment.function)
    status["url"] = deployment.url
    if entry.activated:
        status["activated"] = entry.activated
    if deployment.warnings:
        status["warnings"] = list(deployment.warnings)
    if entry.cvat_exclusion:
        status["setAside"] = entry.cvat_exclusion
    if entry.cvat_absence:
        status["notes"] = [f"not in CVAT's list: {entry.cvat_absence}"]
    if (operation := entry.operation) is not None:
        status["operation"] = {
            "id": operation.id,
            "action": operation.action,
            "state": operation.state,
            "started": operation.started,
            "message": operation.message,
            # The revision that is active at its end.
            "revision": operation.revision,
        }
    return status


def hide_secrets(message: str, function: Function) -> str:
    """Return a message about a function, such as a traceback, without its secrets."""
    return mask_values(message, secret_values(to_dict(function))) if message else ""


def _is_path(value: Any) -> bool:
    """Return True for a path of this machine, which clients do not need to see."""
    return isinstance(value, str) and os.path.isabs(value)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The content of an export: plain values with `show_values`, secret ones with `show_secrets`.

    `cleanup_spec` leaves the registry out.
    """

    show_values: bool = False
    show_secrets: bool = False
    cleanup_spec: bool = False


def exported_object(entry: FunctionEntry, options: ExportOptions) -> Raw:
    """Return metadata and spec as nuctl exports them, for an import elsewhere."""
    deployment = entry.deployment
    image = deployment.pinned_image or (deployment.image.reference if deployment.image else "")
    raw = export_configuration(
        deployment.function,
        state=deployment.state,
        image=image,
        cleanup_spec=options.cleanup_spec,
    )
    return raw if options.show_secrets else redact_values(raw, show_values=options.show_values)


def redact_values(raw: Raw, *, show_values: bool) -> Raw:
    """Return a function's JSON object without the secrets that the client may not read.

    With `show_values`, for clients with the write role, only values that look like secrets or are
    declared as such are left out; without it the values of all variables.
    """
    return mask_variables(redact_except_variables(raw), secrets_only=show_values)


def restore_secrets(requested: Function, stored: Function | None) -> Function:
    """Return the requested function with stored secrets in place of unchanged masks.

    Readers see more masks than writers; both kinds are replaced. Raises `UsageError` for
    "[redacted]" if no value is stored.
    """
    stored_values = to_dict(stored) if stored is not None else {}
    masked_values = redact_values(stored_values, show_values=False)
    raw = _restore(to_dict(requested), stored_values, masked_values, "")
    return function_from_dict(raw, requested.metadata.name)


def _restore(requested: Any, stored: Any, masked: Any, path: str) -> Any:
    if isinstance(requested, dict):
        stored = stored if isinstance(stored, dict) else {}
        masked = masked if isinstance(masked, dict) else {}
        if stored.get("valueFrom") and requested.get("value"):
            return _restore_reference(requested, stored)
        # A key whose value was hidden whole is sent empty to clients, which leave it out then.
        hidden_values = {
            key: value
            for key, value in stored.items()
            if key not in requested and (key not in masked or (value and not masked[key]))
        }
        return hidden_values | {
            key: _restore(value, stored.get(key), masked.get(key), f"{path}.{key}")
            for key, value in requested.items()
        }
    if isinstance(requested, list):
        return _restore_list(requested, stored, masked, path)
    if stored is not None and requested == masked != stored:
        return stored
    if requested == REDACTED:
        raise UsageError(
            f"{path.removeprefix('.')} is {REDACTED}, and no value is stored for it",
            hint="send the value itself, or leave it out",
        )
    return requested


def _restore_reference(requested: Raw, stored: Raw) -> Raw:
    """Return a variable that is stored as a reference to the function's managed Secret.

    Clients see it as a masked value. The reference is kept unless another value is sent.
    """
    if requested["value"] != REDACTED:
        return requested
    rest = {key: value for key, value in requested.items() if key != "value"}
    return {**rest, "valueFrom": stored["valueFrom"]}


def _restore_list(requested: list[Any], stored: Any, masked: Any, path: str) -> Any:
    """Restore the items of a list: by their names, and items without a name by their masks."""
    stored = list(stored) if isinstance(stored, list) else []
    masked = masked if isinstance(masked, list) else []
    if requested == masked:
        return stored
    stored_by_name, masked_by_name = _by_name(stored), _by_name(masked)
    items = []
    for item in requested:
        name = _item_name(item)
        if not name and item in masked:
            items.append(stored[masked.index(item)])
        else:
            before, mask = stored_by_name.get(name), masked_by_name.get(name)
            items.append(_restore(item, before, mask, f"{path}.{name}"))
    return items


def _by_name(items: Any) -> dict[str, Any]:
    """Return the items of a list that have names, such as variables, containers and volumes."""
    items = items if isinstance(items, list) else []
    return {name: item for item in items if (name := _item_name(item))}


def _item_name(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    volume = item.get("volume")
    name = volume.get("name") if isinstance(volume, dict) else item.get("name")
    return name if isinstance(name, str) else ""
