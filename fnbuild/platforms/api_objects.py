"""Functions and projects as objects of Nuclio's API, in plain JSON values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fnbuild.function.types import Raw, to_dict
from fnbuild.platforms.base import (
    Deployment,
    Project,
    ServiceStatus,
    WorkerStatus,
)
from fnbuild.platforms.sleep_status import GroupStatus, SleepStatus

_TRIGGER_FIELDS = {"class": "", "kind": "", "name": ""}
_DATA_BINDING_FIELDS = {"class": "", "kind": "", "url": ""}


def function_object(deployment: Deployment) -> Raw:
    """Return the function in Nuclio's form (pkg/functionconfig/types.go).

    It has every field that Nuclio prints even if it is empty, and httpPort, which CVAT requires.
    """
    raw = with_go_defaults(to_dict(deployment.function))
    status: Raw = {"state": deployment.state, "httpPort": deployment.http_port}
    if deployment.message:
        status["message"] = deployment.message
    if deployment.internal_urls:
        status["internalInvocationUrls"] = list(deployment.internal_urls)
    if deployment.external_urls:
        status["externalInvocationUrls"] = list(deployment.external_urls)
    # These are not Nuclio's; its clients ignore them.
    if deployment.grpc_port:
        status["grpcPort"] = deployment.grpc_port
    status["platform"] = deployment.platform
    status["revision"] = deployment.revision
    if deployment.sleep is not None:
        status["sleep"] = _sleep_object(deployment.sleep)
    if deployment.service is not None:
        status["service"] = _service_object(deployment.service)
    if deployment.details:
        status["details"] = dict(deployment.details)
    raw["status"] = status
    return raw


def _service_object(service: ServiceStatus) -> Raw:
    return {
        "url": service.url,
        "ready": service.ready,
        "latestRevision": service.latest_revision,
        "latestTraffic": service.latest_traffic,
        "previousRevision": service.previous_revision,
        "previousTraffic": service.previous_traffic,
        "created": service.created,
    }


def _sleep_object(sleep: SleepStatus) -> Raw:
    return {
        "state": sleep.state,
        "since": sleep.since,
        "wakeSeconds": sleep.wake_seconds,
        "idleTimeout": sleep.idle_timeout,
        "level": sleep.level,
        "group": None if sleep.group is None else _group_object(sleep.group),
    }


def _group_object(group: GroupStatus) -> Raw:
    return {
        "name": group.name,
        "usage": group.usage,
        "awakeLimit": group.awake_limit,
        "memoryLimit": group.memory_limit,
        "memoryUsed": group.memory_used,
        "members": [
            {
                "function": member.function,
                "revision": member.revision,
                "state": member.state,
                "memory": member.memory,
                "permanent": member.permanent,
                "lastRequest": member.last_request,
                "place": member.place,
                "waitingSince": member.waiting_since,
                "description": member.description,
            }
            for member in group.members
        ],
    }


def worker_objects(workers: Iterable[WorkerStatus]) -> list[Raw]:
    return [
        {
            "id": str(worker.id),
            "state": worker.state,
            "pid": worker.pid,
            "restarts": worker.restarts,
            **({"device": worker.device} if worker.device else {}),
        }
        for worker in workers
    ]


def with_go_defaults(raw: Raw) -> Raw:
    """Add the fields that Go always prints: those without `omitempty`, and structs."""
    spec = dict(raw.get("spec") or {})
    for key in ("resources", "build", "platform"):
        spec.setdefault(key, {})
    spec.setdefault("eventTimeout", "")
    for key, fields in (("triggers", _TRIGGER_FIELDS), ("dataBindings", _DATA_BINDING_FIELDS)):
        if spec.get(key):
            spec[key] = {name: {**fields, **value} for name, value in spec[key].items()}
    return {**raw, "metadata": raw.get("metadata") or {}, "spec": spec}


def project_object(project: Project) -> Raw:
    """Return the project in Nuclio's form (pkg/platform/types.go), without a status.

    Empty values are left out.
    """
    metadata = {"labels": project.labels, "annotations": project.annotations}
    spec = {"description": project.description, "owner": project.owner}
    identity = {"name": project.name, "namespace": project.namespace}
    return {
        "metadata": identity | {key: texts for key, texts in metadata.items() if texts},
        "spec": {key: text for key, text in spec.items() if text},
    }


def project_from_object(raw: Raw, name: str, namespace: str) -> Project:
    """Return the project of one of Nuclio's project objects."""
    metadata, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    return Project(
        name,
        namespace,
        spec.get("description") or "",
        spec.get("owner") or "",
        _string_map(metadata.get("labels")),
        _string_map(metadata.get("annotations")),
    )


def _string_map(values: Any) -> dict[str, str]:
    return {key: str(value) for key, value in (values or {}).items()}
