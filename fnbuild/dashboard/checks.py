"""What CVAT would object to in a function's reply: what `fnbuild invoke --image` says."""

from __future__ import annotations

from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.check import reply
from fnbuild.check.problems import Problem
from fnbuild.check.request import Picture
from fnbuild.check.request import Request as Sent
from fnbuild.dashboard.answers import json_body, json_response
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.errors import UsageError
from fnbuild.spec import labels
from fnbuild.spec.types import Raw

# Masks of older interactors have a number and a comma for each pixel of the picture.
_LIMIT = 64 << 20

# Of its own, so that large replies never take the threads that everything else needs.
_AT_ONCE = anyio.CapacityLimiter(2)


async def check(request: Request) -> Response:
    """`{"findings": [{severity, path, message, hint}]}`; 200 whatever is found."""
    given = await json_body(request, _LIMIT)
    kind, text = given.get("kind"), given.get("reply")
    if kind not in labels.KINDS:
        raise UsageError(
            f"there are no replies of kind {kind!r}", hint=f"one of {', '.join(labels.KINDS)}"
        )
    if not isinstance(text, str):
        raise UsageError("the reply is missing", hint="`reply` is the reply's text")
    size = _count(given, "width"), _count(given, "height")
    spec = given.get("spec", "")
    counts, follows = _counts(given.get("counts", [])), bool(given.get("follows"))
    sent = Sent(kind, b"", Picture(b"", "", size), counts=counts, follows=follows)

    def found() -> list[Raw]:
        known = labels.parse(spec) if isinstance(spec, str) else []
        return [_object(one) for one in reply.read(kind, text, known, size, sent).problems]

    return json_response({"findings": await anyio.to_thread.run_sync(found, limiter=_AT_ONCE)})


def _count(given: Raw, key: str) -> int:
    value = given.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"`{key}` is the picture's {key} in pixels, not {value!r}")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    whole = isinstance(values, list) and all(type(each) is int and each >= 0 for each in values)
    if not whole:
        raise UsageError(
            "`counts` says how many shapes or boxes were sent: a list of whole numbers"
        )
    return tuple(values)


def _object(one: Problem) -> Raw:
    return {
        "severity": one.severity,
        "path": one.path,
        "message": one.message,
        "hint": one.hint or "",
    }


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
