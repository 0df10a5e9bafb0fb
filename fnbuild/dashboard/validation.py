"""Findings in a configuration, at their lines: what `fnbuild validate` says, while somebody types.

The text may name paths; none of them is opened. Where the request names a function, the handler is
looked for in that function's recorded code.
"""

from __future__ import annotations

from pathlib import Path

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import BODY_LIMIT, Endpoint
from fnbuild.dashboard.examinations import Examination
from fnbuild.dashboard.namespaces import NAMESPACE, namespace_of
from fnbuild.dashboard.services import services_of
from fnbuild.errors import FnbuildError


async def validate(request: Request) -> Response:
    """`{"diagnostics": […], "function": name or null}`; 200 whatever is found."""
    name = request.query_params.get("function", "")
    code = await _code(request, name) if name else None
    examination = Examination("configuration", str(code or ""))
    return await services_of(request).cpu_workers.answer(request, examination, BODY_LIMIT)


async def _code(request: Request, name: str) -> Path | None:
    """The folder with the recorded code of a function, where its platform keeps one."""
    services, namespace = services_of(request), namespace_of(request)
    try:
        listed = await services.inventory.function(namespace, name)
        platform = services.inventory.platform(listed.platform)
        async with services.reading.whole():
            return await to_thread.run_sync(platform.source, namespace, listed.deployment.name)
    except FnbuildError:
        return None  # the text is checked all the same


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/validations",
        ("POST",),
        "read",
        validate,
        "Check the text of a function.yaml by the rules of `fnbuild validate`",
        parameters={
            NAMESPACE: "The namespace; the dashboard's own without.",
            "?function": "The function whose recorded code has the handler.",
        },
        takes={"application/yaml": {"type": "string"}},
        gives={
            "application/json": {
                "type": "object",
                "properties": {
                    "diagnostics": {"type": "array", "items": {"type": "object"}},
                    "function": {"type": ["string", "null"]},
                },
            }
        },
    ),
)
