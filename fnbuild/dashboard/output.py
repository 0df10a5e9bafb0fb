"""The newest change of a function with its output, whole and as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fnbuild.dashboard.answers import json_response
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.namespaces import NAMESPACE, namespace_of
from fnbuild.dashboard.operation import Operation
from fnbuild.dashboard.operations import Operations
from fnbuild.dashboard.services import services_of
from fnbuild.errors import NotFoundError


async def operation(request: Request) -> Response:
    """The newest change: what it is, how far, and its lines."""
    found = await _newest(request)
    lines = await to_thread.run_sync(services_of(request).operations.lines, found)
    return json_response(
        {
            "id": found.id,
            "action": found.action,
            "state": found.state,
            "started": found.started,
            "ended": found.ended,
            "message": found.message,
            "actor": found.actor,
            "lines": lines,
        }
    )


async def stream(request: Request) -> Response:
    """Server-sent events: `line` for each from the first on, `state` at each change of it."""
    found = await _newest(request)
    events = _events(services_of(request).operations, found)
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def _events(operations: Operations, found: Operation) -> AsyncIterator[bytes]:
    async for kind, value in operations.follow(found):
        yield b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(value))


async def _newest(request: Request) -> Operation:
    namespace, name = namespace_of(request), request.path_params["name"].partition("@")[0]
    newest = services_of(request).operations.newest
    found = await to_thread.run_sync(newest, namespace, name)
    if found is None:
        raise NotFoundError(
            f"no change of {name!r} is on record", hint="changes that are asked for here are"
        )
    return found


_ONE = "/api/functions/{name}/operation"
_NAMED = {NAMESPACE: "The namespace; the dashboard's own without."}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _ONE,
        ("GET",),
        "read",
        operation,
        "The newest change of a function, with its output.",
        parameters=_NAMED,
        gives={"application/json": {"type": "object"}},
    ),
    Endpoint(
        f"{_ONE}/stream",
        ("GET",),
        "read",
        stream,
        "The output of the newest change as server-sent events, until it has ended.",
        parameters=_NAMED,
        gives={"text/event-stream": {"type": "string"}},
    ),
)
