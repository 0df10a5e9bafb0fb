"""The description of the API as an OpenAPI document and as a page.

Both are generated from the endpoints, so that none can be missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fnbuild import __version__
from fnbuild.dashboard.endpoints import JSON_OBJECT, TEXT, Access, Endpoint
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.page import file_response
from fnbuild.function.types import Raw

_PLACEHOLDER = re.compile(r"\{(\w+)(?::\w+)?\}")

_ABOUT = """\
Nuclio's dashboard API with extensions of fnbuild. Lists are objects keyed by name. Trailing slashes
and the case of header names are ignored. Deploys are asynchronous: the response is 202, and
`status.state` of the function shows the progress.

Changes need the dashboard's token: as a bearer token, as the password of HTTP Basic, or as `sid` in
nuclio-jupyter's cookie `session`."""

_SECURITY: dict[Access, list[Raw]] = {
    "open": [],
    "read": [{}, {"bearer": []}, {"basic": []}, {"session": []}, {"page": []}],
    "write": [{"bearer": []}, {"basic": []}, {"session": []}, {"page": []}],
}
_SCHEMES: Raw = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The token is the password."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "session",
        "description": 'nuclio-jupyter\'s: `j:{"sid": "TOKEN"}`.',
    },
    "page": {
        "type": "apiKey",
        "in": "cookie",
        "name": "fnbuild_session",
        "description": "Given for a token by POST /api/session.",
    },
}
_DIAGNOSTIC: Raw = {
    "type": "object",
    "properties": {
        "severity": {"enum": ["error", "warning"]},
        **dict.fromkeys(("rule", "message", "hint", "file", "excerpt"), TEXT),
        **{name: {"type": "integer"} for name in ("line", "column", "endLine", "endColumn")},
    },
}
_ERROR: Raw = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "What failed and why."},
        "errorStackTrace": {"type": "string", "description": "The handler's own traceback."},
        "hint": {"type": "string", "description": "The remedy."},
        "code": {"type": "string", "description": "The kind of error, for programs."},
        "diagnostics": {"type": "array", "items": {"$ref": "#/components/schemas/Diagnostic"}},
    },
    "required": ["error", "errorStackTrace", "hint", "code", "diagnostics"],
}
_FAILED: Raw = {
    "description": "An error with its remedy.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def make_document(endpoints: Sequence[Endpoint]) -> Raw:
    """Return the OpenAPI 3.1 document of the endpoints."""
    paths: dict[str, Raw] = {}
    for endpoint in endpoints:
        path = _PLACEHOLDER.sub(r"{\1}", endpoint.path)
        item = paths.setdefault(path, {})
        item[endpoint.method.lower()] = _operation(endpoint, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fnbuild dashboard", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "Diagnostic": _DIAGNOSTIC},
            "securitySchemes": _SCHEMES,
        },
    }


def _operation(endpoint: Endpoint, path: str) -> Raw:
    slug = re.sub(r"\W+", "_", path.removeprefix("/api/")).strip("_")
    summary = endpoint.summary.rstrip(".")
    response: Raw = {"description": summary}
    if endpoint.response_content:
        response["content"] = _content(endpoint.response_content)
    operation: Raw = {
        "operationId": f"{endpoint.method.lower()}_{slug}",
        "summary": summary,
        "tags": [path.split("/")[2]],
        "parameters": [*_path_parameters(endpoint.path), *_parameters(endpoint.parameters)],
        "responses": {str(endpoint.status): response, "default": _FAILED},
        "security": _SECURITY[endpoint.access],
    }
    if endpoint.request_content and endpoint.method not in ("GET", "HEAD"):
        operation["requestBody"] = {"content": _content(endpoint.request_content)}
    return operation


def _content(schemas: dict[str, Any]) -> Raw:
    return {media: {"schema": schema} for media, schema in schemas.items()}


def _path_parameters(path: str) -> list[Raw]:
    return [
        {"name": name, "in": "path", "required": True, "schema": TEXT}
        for name in _PLACEHOLDER.findall(path)
    ]


def _parameters(descriptions: dict[str, str]) -> list[Raw]:
    return [
        {
            "name": name[1:] if name.startswith("?") else name.title(),
            "in": "query" if name.startswith("?") else "header",
            "description": text,
            "schema": TEXT,
        }
        for name, text in descriptions.items()
    ]


async def get_document(request: Request) -> Response:
    """Return the document as JSON."""
    return json_response(request.app.state.description)


async def get_docs_page(request: Request) -> Response:
    """Return the page that shows the document."""
    return file_response(request, "docs.html")


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/openapi.json",
        "GET",
        "open",
        get_document,
        "Get this description as OpenAPI 3.1",
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        "/api/docs",
        "GET",
        "open",
        get_docs_page,
        "Get this description as a page",
        response_content={"text/html": TEXT},
    ),
)
