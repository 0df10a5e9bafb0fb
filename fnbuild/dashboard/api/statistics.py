"""What a function did in the last minutes, and its last errors."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.objects import hide_secrets
from fnbuild.dashboard.requests import NAMESPACE_HEADER, function_namespace
from fnbuild.dashboard.sampling import INTERVAL_SECONDS, Sample
from fnbuild.dashboard.services import services_of
from fnbuild.errors import FnbuildError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Deployment, LogRecord, Platform, Statistics

_MAX_LINES = 2000
_MAX_ERRORS = 20


async def get_statistics(request: Request) -> Response:
    """Samples of the last 15 minutes, the workers now, and the last errors, newest first."""
    services, namespace = services_of(request), function_namespace(request)
    listed = await services.inventory.function(namespace, request.path_params["name"])
    platform = services.inventory.platform(listed.platform)
    async with services.reading.whole():
        now, errors = await anyio.to_thread.run_sync(
            _read_platform, platform, namespace, listed.deployment
        )
    memory = [one.gpu_memory for one in now.values() if one.gpu_memory is not None]
    history = services.sampling.history(namespace, listed.name)
    return json_response(
        {
            "interval": INTERVAL_SECONDS,
            "samples": [_sample_object(one) for one in history.samples],
            "workers": listed.deployment.details.get("workers") or _worker_objects(now),
            "restarts": sum(one.restarts for one in now.values()),
            "gpuMemory": sum(memory) if memory else None,
            "errors": [_error_object(one, listed.deployment.function) for one in errors],
        }
    )


def _read_platform(
    platform: Platform, namespace: str, deployment: Deployment
) -> tuple[dict[str, Statistics], list[LogRecord]]:
    return platform.statistics(deployment), _read_errors(platform, namespace, deployment.name)


def _worker_objects(now: dict[str, Statistics]) -> list[Raw]:
    """The workers of several replicas, of which no more is known than their states."""
    return [
        {"id": f"{replica} {number}", "state": state}
        for replica, one in now.items()
        for number, state in enumerate(
            state for state, count in one.workers.items() for _ in range(count)
        )
    ]


def _read_errors(platform: Platform, namespace: str, name: str) -> list[LogRecord]:
    """The last errors of the function's log, newest first."""
    try:
        records = [
            one for one in platform.logs(namespace, name, tail=_MAX_LINES) if one.level == "error"
        ]
    except FnbuildError:
        return []  # it has no log yet, or not any more
    return records[: -_MAX_ERRORS - 1 : -1]


def _sample_object(one: Sample) -> Raw:
    """Percentiles as they are likely to be; `bounds` are what they lie between for sure."""
    found = dict(zip(("p50", "p95", "p99"), one.quantiles or (None, None, None), strict=True))
    return {
        "time": one.time,
        "requests": one.requests,
        "errors": one.errors,
        **{name: value and value.likely for name, value in found.items()},
        "bounds": {name: value and [value.least, value.most] for name, value in found.items()},
        "busy": one.busy,
        "workers": one.workers,
    }


def _error_object(record: LogRecord, function: Function) -> Raw:
    message = hide_secrets(record.message, function)
    found: dict[str, Any] = {"time": record.time, "message": message}
    for name, field in (("requestId", "request_id"), ("status", "status")):
        if field in record.fields:
            found[name] = record.fields[field]
    return found


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions/{name}/statistics",
        ("GET",),
        "read",
        get_statistics,
        "What a function did in the last 15 minutes, and its last errors.",
        parameters={NAMESPACE_HEADER: "The namespace; the dashboard's own without."},
        gives={"application/json": {"type": "object"}},
    ),
)
