"""The findings about replies of a function that the dashboard has relayed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import TEXT, Endpoint, array_of, json_content
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.requests import NAMESPACE_PARAMETER, function_namespace, requested_function
from fnbuild.dashboard.services import services_of


async def get_findings(request: Request) -> Response:
    """Return the number of checked and faulty replies of the revision, and a finding per rule."""
    entry, _ = await requested_function(request)
    watched = services_of(request).reply_watch.watched(function_namespace(request), entry.name)
    is_current = watched.revision == entry.deployment.revision
    return json_response(
        {
            "checked": watched.checked if is_current else 0,
            "faulty": watched.faulty if is_current else 0,
            "findings": list(watched.findings.values()) if is_current else [],
        }
    )


_NUMBER = {"type": "integer"}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions/{name}/findings",
        "GET",
        "read",
        get_findings,
        "Get what CVAT would refuse, drop or misread in samples of the replies relayed here",
        parameters=NAMESPACE_PARAMETER,
        response_content=json_content(
            {
                "checked": _NUMBER,
                "faulty": _NUMBER,
                "findings": array_of(
                    {
                        "rule": TEXT,
                        "severity": {"enum": ["error", "warning"]},
                        "path": TEXT,
                        "message": TEXT,
                        "effect": TEXT,
                        "remedy": TEXT,
                        "replies": _NUMBER,
                        "time": {"type": "number"},
                    }
                ),
            }
        ),
    ),
)
