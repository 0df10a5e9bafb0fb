"""A function of Nuclio as the platform protocol shows it."""

from __future__ import annotations

from typing import Any, cast

from fnbuild.platforms import Deployment, FunctionState, Revision
from fnbuild.platforms.nuclio.body import FILLED_IN
from fnbuild.platforms.nuclio.dashboard import Dashboard
from fnbuild.platforms.nuclio.records import (
    PROCESSOR_VARIABLE,
    Facts,
    facts_of,
    metadata_of,
    state_of,
    status_of,
    without_own,
)
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function, Raw

PLATFORM = "nuclio"

_AS_THEY_ARE = ("ready", "unhealthy", "error", "imported", "scaledToZero")
_EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - as Nuclio writes it where it knows no address


def function_of(stored: Raw) -> Function:
    """The configuration, without what fnbuild and Nuclio wrote beside it. Raises `ConfigError`."""
    metadata, spec, known = metadata_of(stored), dict(stored.get("spec") or {}), facts_of(stored)
    spec.pop("imageHash", None)  # of no interest to whoever deploys the function again
    if known.number:
        _less_own(spec, known)
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
            "annotations": without_own(metadata.get("annotations") or {}),
        },
        "spec": spec,
    }
    return from_raw(raw, str(metadata.get("name", "")))


def _less_own(spec: Raw, known: Facts) -> None:
    """Take out what a deploy filled in. The image stays the exact one: the name that people know
    may mean another by now.
    """
    given = (known.fields or {}).get("spec") or {}
    for name in FILLED_IN:
        if name not in given:
            spec.pop(name, None)


def state(stored: Raw) -> FunctionState:
    """Nuclio's state; all the ways of being on the way count as building."""
    word = state_of(stored)
    if word == "ready" and (stored.get("spec") or {}).get("disable"):
        return "standby"
    return cast(FunctionState, word) if word in _AS_THEY_ARE else "building"


def deployment(stored: Raw, dashboard: Dashboard) -> Deployment:
    """Return the function as the dashboard describes it."""
    status, known = status_of(stored), facts_of(stored)
    now = state(stored)
    return Deployment(
        function=function_of(stored),
        platform=PLATFORM,
        state=now,
        message=str(status.get("message") or ""),
        revision=known.number,
        http_port=_port(status),
        internal_urls=_urls(status.get("internalInvocationUrls")),
        external_urls=tuple(
            one.replace(_EVERY_INTERFACE, dashboard.host)
            for one in _urls(status.get("externalInvocationUrls"))
        ),
        replicas=_replicas(stored, now),
        details=_details(stored, known, dashboard.place),
    )


def _port(status: Raw) -> int:
    port = status.get("httpPort")
    return port if isinstance(port, int) else 0


def _urls(given: Any) -> tuple[str, ...]:
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


def _details(stored: Raw, known: Facts, place: str) -> dict[str, Any]:
    details: dict[str, Any] = {"nuclio": place, "nuclio_state": state_of(stored)}
    if known.image:
        details["image"] = known.image
    if known.number:
        details |= {"digest": known.digest, "pinned": known.pinned, "created": known.created}
    else:
        details["deployed_by"] = "another client of Nuclio"
    return details


def revisions(stored: Raw) -> list[Revision]:
    """The one that Nuclio has; none of what others deployed."""
    known = facts_of(stored)
    if not known.number:
        return []
    failed = state(stored) in ("error", "unhealthy")
    message = str(status_of(stored).get("message") or "")
    return [
        Revision(
            known.number,
            known.created,
            "failed" if failed else "active",
            known.digest,
            function_of(stored),
            message if failed else "",
        )
    ]
