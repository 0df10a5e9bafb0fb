"""Check the text of a function.yaml, or a function's reply, as the command line does.

A function.yaml may name paths; none of them is opened. If the request names a function, the handler
is looked up in that function's recorded code.
"""

from __future__ import annotations

from pathlib import Path

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.cpu_tasks import CpuTask
from fnbuild.dashboard.endpoints import OBJECTS, TEXT, Endpoint, array_of, json_content
from fnbuild.dashboard.requests import NAMESPACE_PARAMETER, function_namespace
from fnbuild.dashboard.services import services_of
from fnbuild.errors import FnbuildError
from fnbuild.function import labels

# Masks of older interactors have a number and a comma for each pixel of the image.
_MAX_REPLY_BYTES = 64 << 20


async def check_configuration(request: Request) -> Response:
    """Return `{"diagnostics": […], "function": name or null}`, with status 200 in any case."""
    name = request.query_params.get("function", "")
    code = await _recorded_code(request, name) if name else None
    task = CpuTask("configuration", str(code or ""))
    return await services_of(request).cpu_pool.respond(request, task)


async def _recorded_code(request: Request, name: str) -> Path | None:
    """Return the folder with the recorded code of a function, if its platform stores it."""
    services, namespace = services_of(request), function_namespace(request)
    try:
        listed = await services.inventory.function(namespace, name)
        platform = services.inventory.platform(listed.platform)
        async with services.reading_limiter.admit_to_slot():
            return await to_thread.run_sync(platform.code_folder, namespace, listed.deployment.name)
    except FnbuildError:
        return None  # the text is checked without the code


async def check_reply(request: Request) -> Response:
    """Return the findings as `invoke --image` prints them, with status 200 in any case."""
    return await services_of(request).cpu_pool.respond(request, CpuTask("function_reply"))


_POSITIVE_INTEGER = {"type": "integer", "minimum": 1}
_FINDING = {
    "severity": {"enum": ["error", "warning"]},
    "rule": TEXT,
    "path": TEXT,
    "message": TEXT,
    "hint": TEXT,
}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/validations",
        "POST",
        "read",
        check_configuration,
        "Check the text of a function.yaml by the rules of `fnbuild validate`",
        parameters={
            **NAMESPACE_PARAMETER,
            "?function": "The function with the recorded code of the handler.",
        },
        request_content={"application/yaml": TEXT},
        response_content=json_content(
            {"diagnostics": OBJECTS, "function": {"type": ["string", "null"]}}
        ),
    ),
    Endpoint(
        "/api/checks",
        "POST",
        "read",
        check_reply,
        "Check a function's reply for what CVAT would refuse, drop or misread",
        request_content=json_content(
            {
                "kind": {"enum": list(labels.FUNCTION_KINDS)},
                "spec": TEXT,
                "reply": TEXT,
                "width": _POSITIVE_INTEGER,
                "height": _POSITIVE_INTEGER,
                "counts": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "follows": {"type": "boolean"},
            },
            "kind",
            "reply",
            "width",
            "height",
        ),
        response_content=json_content({"findings": array_of(_FINDING)}),
        limit=_MAX_REPLY_BYTES,
    ),
)
