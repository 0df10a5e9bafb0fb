"""The endpoint of an API: its path and method, the access it needs, and its handler.

Every module with handlers lists its own as `ENDPOINTS`. `app` creates routes from them and checks
their access, and `api.openapi` describes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

Access = Literal["open", "read", "write"]
"""`open` needs no role, `read` the role to read and invoke, `write` the role to change."""

BODY_LIMIT = 8 << 20
"""The default limit of a request's body in bytes."""

JSON_OBJECT: dict[str, Any] = {"application/json": {"type": "object"}}
"""The content of a body that is any JSON object."""

TEXT: dict[str, Any] = {"type": "string"}
"""The schema of a text."""

OBJECTS: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
"""The schema of a list of any objects."""

Handler = Callable[[Request], Awaitable[Response]]


def json_content(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the content of a body that is a JSON object with these properties."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return {"application/json": schema}


def array_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list of objects with these properties."""
    return {"type": "array", "items": {"type": "object", "properties": properties}}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint. `path` is in Starlette's format, without a trailing slash.

    `limit` is the most bytes that a request's body may have; None leaves that to the handler.
    `parameters` describes headers and query parameters by name, the latter with a leading `?`.
    `request_content` and `response_content` are JSON Schemas by media type.
    """

    path: str
    method: str
    access: Access
    handler: Handler
    summary: str
    parameters: dict[str, str] = field(default_factory=dict)
    request_content: dict[str, Any] = field(default_factory=dict)
    response_content: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    limit: int | None = BODY_LIMIT
