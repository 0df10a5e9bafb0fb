"""Findings in a configuration, at their lines: what `fnbuild validate` says, while somebody types.

The text is all there is to look at. It may name paths; none of them is opened.
"""

from __future__ import annotations

import anyio
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.answers import diagnostic_object, json_response, whole_body
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.spec import reader
from fnbuild.spec.locate import NAMES


async def validate(request: Request) -> Response:
    """`{"diagnostics": […], "function": name or null}`; 200 whatever is found."""
    text = await whole_body(request)
    function, report = await anyio.to_thread.run_sync(reader.check_text, text, NAMES[0])
    name = function.metadata.name if function is not None else ""
    found = [diagnostic_object(one) for one in report]
    return json_response({"diagnostics": found, "function": name or None})


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/validations",
        ("POST",),
        "read",
        validate,
        "Check the text of a function.yaml by the rules of `fnbuild validate`",
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
