"""The audit log of changes."""

from __future__ import annotations

from dataclasses import asdict

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import TEXT, Endpoint, array_of, json_content
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 10_000


async def list_audit_log(request: Request) -> Response:
    """List changes, newest first."""
    text = request.query_params.get("limit", str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 9):
        raise UsageError(f"limit: {text[:50]!r} is not a number", hint="as in ?limit=20")
    limit = min(int(text), _MAX_LIMIT)
    rows = await anyio.to_thread.run_sync(services_of(request).store.audit, limit)
    return json_response({"audit": [asdict(row) for row in rows]})


_ROW = dict.fromkeys(("time", "actor", "action", "target", "outcome"), TEXT)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/audit",
        "GET",
        "write",
        list_audit_log,
        "List the audit log, newest first",
        parameters={"?limit": f"The most entries to return; {_DEFAULT_LIMIT} by default."},
        response_content=json_content({"audit": array_of(_ROW)}),
    ),
)
