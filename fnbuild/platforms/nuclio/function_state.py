"""The current state of a function, from its configuration and status in Nuclio."""

from __future__ import annotations

from typing import Any, cast

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Deployment, FunctionState, Revision
from fnbuild.platforms.nuclio.client import DashboardClient
from fnbuild.platforms.nuclio.function_config import (
    FILLED_IN_FIELDS,
    PROCESSOR_VARIABLE,
    RevisionRecord,
    decode_revision,
    metadata_of,
    state_of,
    status_of,
    user_annotations,
)

PLATFORM_NAME = "nuclio"

_SHARED_STATES = ("ready", "unhealthy", "error", "imported", "scaledToZero")
_EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - as Nuclio writes it where it knows no address


def configuration_of(stored: Raw) -> Function:
    """The configuration, without what fnbuild and Nuclio wrote beside it. Raises `ConfigError`."""
    metadata, spec, known = (
        metadata_of(stored),
        dict(stored.get("spec") or {}),
        decode_revision(stored),
    )
    spec.pop("imageHash", None)  # of no interest to whoever deploys the function again
    if known.number:
        _remove_filled_in(spec, known)
    env = [
        one
        for one in spec.get("env") or []
        if not (isinstance(one, dict) and one.get("name") == PROCESSOR_VARIABLE)
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


def _remove_filled_in(spec: Raw, known: RevisionRecord) -> None:
    """Take out what a deploy filled in. The image stays the exact one: the name that people know
    may mean another by now.
    """
    given = (known.fields or {}).get("spec") or {}
    for name in FILLED_IN_FIELDS:
        if name not in given:
            spec.pop(name, None)


def function_state_of(stored: Raw) -> FunctionState:
    """Nuclio's state; all the ways of being on the way count as building."""
    word = state_of(stored)
    if word == "ready" and (stored.get("spec") or {}).get("disable"):
        return "standby"
    return cast(FunctionState, word) if word in _SHARED_STATES else "building"


def to_deployment(stored: Raw, dashboard: DashboardClient) -> Deployment:
    """Return the function as the dashboard describes it."""
    status, known = status_of(stored), decode_revision(stored)
    now = function_state_of(stored)
    return Deployment(
        function=configuration_of(stored),
        platform=PLATFORM_NAME,
        state=now,
        message=str(status.get("message") or ""),
        revision=known.number,
        http_port=_http_port(status),
        internal_urls=_string_tuple(status.get("internalInvocationUrls")),
        external_urls=tuple(
            one.replace(_EVERY_INTERFACE, dashboard.host)
            for one in _string_tuple(status.get("externalInvocationUrls"))
        ),
        replicas=_replicas(stored, now),
        details=_details(stored, known, dashboard.place),
    )


def _http_port(status: Raw) -> int:
    port = status.get("httpPort")
    return port if isinstance(port, int) else 0


def _string_tuple(given: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in given if one) if isinstance(given, list) else ()


def _replicas(stored: Raw, now: FunctionState) -> tuple[int, int]:
    """Return (available, configured): the dashboard does not tell which replicas are ready, so
    a ready function has all of them.
    """
    spec = stored.get("spec") or {}
    if now in ("standby", "imported", "scaledToZero"):
        return 0, 0
    given = spec.get("replicas") if spec.get("replicas") is not None else spec.get("minReplicas")
    wanted = given if isinstance(given, int) else 1
    return (wanted if now == "ready" else 0), wanted


def _details(stored: Raw, known: RevisionRecord, place: str) -> dict[str, Any]:
    details: dict[str, Any] = {"nuclio": place, "nuclio_state": state_of(stored)}
    if known.image:
        details["image"] = known.image
    if known.number:
        details |= {"digest": known.digest, "pinned": known.pinned, "created": known.created}
    else:
        details["deployed_by"] = "another client of Nuclio"
    return details


def to_revisions(stored: Raw) -> list[Revision]:
    """The one that Nuclio has; none of what others deployed."""
    known = decode_revision(stored)
    if not known.number:
        return []
    failed = function_state_of(stored) in ("error", "unhealthy")
    message = str(status_of(stored).get("message") or "")
    return [
        Revision(
            known.number,
            known.created,
            "failed" if failed else "active",
            known.digest,
            configuration_of(stored),
            message if failed else "",
        )
    ]
