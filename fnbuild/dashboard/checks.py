"""What CVAT would object to in a function's reply: what `fnbuild invoke --image` says."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.examinations import Examination
from fnbuild.dashboard.services import services_of
from fnbuild.spec import labels

# Masks of older interactors have a number and a comma for each pixel of the picture.
_LIMIT = 64 << 20


_EXAMINATION = Examination("function_reply")


async def check(request: Request) -> Response:
    """`{"findings": [{severity, path, message, hint}]}`; 200 whatever is found."""
    return await services_of(request).cpu_workers.answer(request, _EXAMINATION, _LIMIT)


_WHOLE = {"type": "integer", "minimum": 1}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/checks",
        ("POST",),
        "read",
        check,
        "Check a function's reply: what CVAT would refuse, drop or misread",
        takes={
            "application/json": {
                "type": "object",
                "required": ["kind", "reply", "width", "height"],
                "properties": {
                    "kind": {"enum": list(labels.KINDS)},
                    "spec": {"type": "string"},
                    "reply": {"type": "string"},
                    "width": _WHOLE,
                    "height": _WHOLE,
                    "counts": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "follows": {"type": "boolean"},
                },
            }
        },
        gives={
            "application/json": {
                "type": "object",
                "properties": {
                    "findings": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "severity": {"enum": ["error", "warning"]},
                                "path": {"type": "string"},
                                "message": {"type": "string"},
                                "hint": {"type": "string"},
                            },
                        },
                    }
                },
            }
        },
        limit=_LIMIT,
    ),
)
