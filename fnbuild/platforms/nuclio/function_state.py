"""The current state of a function, from its configuration and status in Nuclio."""

from __future__ import annotations

from typing import Any, cast

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, Deployment, FunctionState, Revision
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    FILLED_IN_FIELDS,
    PROCESSOR_VARIABLE,
    DeployRecord,
    decode_deploy_record,
    metadata_of,
    nuclio_state_of,
    status_of,
    user_annotations,
)

PLATFORM_NAME = "nuclio"

_SHARED_STATES = ("ready", "unhealthy", "error", "imported", "scaledToZero")
_EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - Nuclio's placeholder for an unknown address


def configuration_of(stored: Raw) -> Function:
    """Return the configuration as the user wrote it. Raises `ConfigError`."""
    metadata, record = metadata_of(stored), decode_deploy_record(stored)
    spec = dict(stored.get("spec") or {})
    spec.pop("imageHash", None)  # a deploy sets a new one
    if record.number:
        _remove_filled_in(spec, record)
    env = [
        entry
        for entry in spec.get("env") or []
        if not (isinstance(entry, dict) and entry.get("name") == PROCESSOR_VARIABLE)
    ]
    spec.pop("env", None)
    if env:
        spec["env"] = env
    raw = {
        "metadata": {
            "name": metadata.get("name", ""),
            "namespace": metadata.get("namespace", ""),
            "labels": metadata.get("labels") or {},
            "annotations": user_annotations(metadata.get("annotations") or {}),
        },
        "spec": spec,
    }
    return function_from_dict(raw, str(metadata.get("name", "")))


def _remove_filled_in(spec: Raw, record: DeployRecord) -> None:
    """Remove the fields that the deploy filled in.

    The image stays an exact reference, because its tag may have moved since.
    """
    user_fields = (record.fields or {}).get("spec") or {}
    for name in FILLED_IN_FIELDS:
        if name not in user_fields:
            spec.pop(name, None)


def function_state_of(stored: Raw) -> FunctionState:
    """Return the state; all transitional states of Nuclio are `building`."""
    state = nuclio_state_of(stored)
    if state == "ready" and (stored.get("spec") or {}).get("disable"):
        return "standby"
    return cast(FunctionState, state) if state in _SHARED_STATES else "building"


def to_deployment(stored: Raw, dashboard: DashboardClient) -> Deployment:
    """Return the function as the dashboard describes it."""
    status, record = status_of(stored), decode_deploy_record(stored)
    state = function_state_of(stored)
    return Deployment(
        function=configuration_of(stored),
        platform=PLATFORM_NAME,
        state=state,
        message=str(status.get("message") or ""),
        revision=record.number,
        http_port=_http_port(status),
        internal_urls=_string_tuple(status.get("internalInvocationUrls")),
        external_urls=tuple(
            url.replace(_EVERY_INTERFACE, dashboard.host)
            for url in _string_tuple(status.get("externalInvocationUrls"))
        ),
        replicas=_replicas(stored, state),
        image=Artifact("image", record.image, record.digest, pinned=record.pinned),
        details=_details(stored, record, dashboard.place),
    )


def _http_port(status: Raw) -> int:
    port = status.get("httpPort")
    return port if isinstance(port, int) else 0


def _string_tuple(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value if item) if isinstance(value, list) else ()


def _replicas(stored: Raw, state: FunctionState) -> tuple[int, int]:
    """Return the available and the desired replicas.

    The dashboard does not report which replicas are ready, so a ready function has all of them.
    """
    if state in ("standby", "imported", "scaledToZero"):
        return 0, 0
    spec = stored.get("spec") or {}
    count = spec.get("replicas") if spec.get("replicas") is not None else spec.get("minReplicas")
    desired = count if isinstance(count, int) else 1
    return (desired if state == "ready" else 0), desired


def _details(stored: Raw, record: DeployRecord, place: str) -> dict[str, Any]:
    details: dict[str, Any] = {"nuclio": place, "nuclio_state": nuclio_state_of(stored)}
    if record.image:
        details["image"] = record.image
    if record.number:
        details |= {"digest": record.digest, "pinned": record.pinned, "created": record.created}
    else:
        details["deployed_by"] = "another client of Nuclio"
    return details


def to_revisions(stored: Raw) -> list[Revision]:
    """Return the one revision that Nuclio keeps; none if another client deployed the function."""
    record = decode_deploy_record(stored)
    if not record.number:
        return []
    failed = function_state_of(stored) in ("error", "unhealthy")
    message = str(status_of(stored).get("message") or "")
    return [
        Revision(
            record.number,
            record.created,
            "failed" if failed else "active",
            record.digest,
            configuration_of(stored),
            message if failed else "",
        )
    ]
