"""Statistics of a function in the last minutes, and its last errors."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import JSON_OBJECT, Endpoint
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.objects import hide_secrets
from fnbuild.dashboard.requests import NAMESPACE_PARAMETER, function_namespace, requested_function
from fnbuild.dashboard.sampling import INTERVAL_SECONDS, Sample
from fnbuild.dashboard.services import services_of
from fnbuild.errors import FnbuildError
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Deployment, LogOptions, LogRecord, Platform, Statistics
from fnbuild.platforms.api_objects import worker_objects

_MAX_LINES = 2000
_MAX_ERRORS = 20


async def get_statistics(request: Request) -> Response:
    """Return samples of the last 15 minutes, the current workers, and the last errors."""
    services, namespace = services_of(request), function_namespace(request)
    entry, platform = await requested_function(request)
    async with services.reading_limiter.admit_to_slot():
        replicas, errors = await anyio.to_thread.run_sync(
            _read_platform, platform, namespace, entry.deployment
        )
    statistics = list(replicas.values())
    memory = [each.gpu_memory for each in statistics if each.gpu_memory is not None]
    history = services.sampler.history(namespace, entry.name)
    return json_response(
        {
            "interval": INTERVAL_SECONDS,
            "samples": [_sample_object(sample) for sample in history.samples],
            "workers": worker_objects(entry.deployment.workers) or _worker_states(replicas),
            "restarts": sum(each.restarts for each in statistics),
            "gpuMemory": sum(memory) if memory else None,
            "errors": [_error_object(record, entry.deployment.function) for record in errors],
        }
    )


def _read_platform(
    platform: Platform, namespace: str, deployment: Deployment
) -> tuple[dict[str, Statistics], list[LogRecord]]:
    return platform.statistics(deployment), _read_errors(platform, namespace, deployment.name)


def _worker_states(replicas: dict[str, Statistics]) -> list[Raw]:
    """Return the workers of several replicas, of which only the states are known."""
    return [
        {"id": f"{replica} {number}", "state": state}
        for replica, statistics in replicas.items()
        for number, state in enumerate(
            state for state, count in statistics.workers.items() for _ in range(count)
        )
    ]


def _read_errors(platform: Platform, namespace: str, name: str) -> list[LogRecord]:
    """Return the last errors in the function's log, newest first."""
    try:
        records = list(platform.logs(namespace, name, LogOptions(tail=_MAX_LINES)))
    except FnbuildError:
        return []  # the function has no log yet, or no longer
    errors = [record for record in records if record.level == "error"]
    return errors[: -_MAX_ERRORS - 1 : -1]


def _sample_object(sample: Sample) -> Raw:
    """Return a sample with estimated percentiles, and the bounds between which they lie."""
    names = ("p50", "p95", "p99")
    quantiles = dict(zip(names, sample.quantiles or (None, None, None), strict=True))
    return {
        "time": sample.time,
        "requests": sample.requests,
        "errors": sample.errors,
        **{name: quantile and quantile.likely for name, quantile in quantiles.items()},
        "bounds": {
            name: quantile and [quantile.least, quantile.most]
            for name, quantile in quantiles.items()
        },
        "busy": sample.busy,
        "workers": sample.workers,
    }


def _error_object(record: LogRecord, function: Function) -> Raw:
    error: dict[str, Any] = {
        "time": record.time,
        "message": hide_secrets(record.message, function),
    }
    for name, field in (("requestId", "request_id"), ("status", "status")):
        if field in record.fields:
            error[name] = record.fields[field]
    return error


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions/{name}/statistics",
        "GET",
        "read",
        get_statistics,
        "Get the statistics of a function in the last 15 minutes, and its last errors.",
        parameters=NAMESPACE_PARAMETER,
        response_content=JSON_OBJECT,
    ),
)
