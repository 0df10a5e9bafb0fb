"""JSON bodies of requests and responses, and the one place where errors become responses.

An error has the two fields of Nuclio (pkg/restful/resource.go) and ours: the remedy, a code for
programs, and diagnostics with their places.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive

from fnbuild.errors import ConfigError, Diagnostic, FnbuildError, UsageError
from fnbuild.function.types import Raw

_log = logging.getLogger("fnbuild.dashboard")

_ERRORS_BY_STATUS = {
    404: ("not-found", "there is no endpoint at this path", "/api/docs lists the endpoints"),
    405: ("method", "the endpoint does not support this method", "/api/docs lists the endpoints"),
}


class RefusedError(FnbuildError):
    """The dashboard refuses a request by itself, and `status` is that of the response.

    Reasons are the credentials, the origin, the size or the pace of a request, and limits.
    """

    code = "refused"

    def __init__(
        self, status: int, message: str, *, hint: str, headers: Mapping[str, str] | None = None
    ):
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = dict(headers or {})


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the value as JSON. Values that JSON cannot express, such as NaN, become null."""
    return Response(msgspec.json.encode(value), status, dict(headers or {}), "application/json")


async def read_json(request: Request) -> Raw:
    """Read the body, which has to be a JSON object."""
    return decode_object(await request.body())


def decode_object(body: bytes) -> Raw:
    """Decode a JSON object. Raises `UsageError`."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the body is not JSON: {error}", hint="send an object, as in {}"
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            "the body is JSON, but not an object", hint='send an object, as in {"metadata": {}}'
        )
    return value


def limit_body(receive: Receive, limit: int) -> Receive:
    """Wrap a request's stream so that it fails once the body is longer than `limit` bytes."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise body_too_large(limit)
        return message

    return receive_limited


def body_too_large(limit: int) -> RefusedError:
    return RefusedError(
        413,
        f"the body has more than {limit >> 20} MiB",
        hint="send code to /api/uploads, which accepts more, or provide a URL",
    )


def diagnostic_object(diagnostic: Diagnostic, file: str = "") -> Raw:
    """Return a diagnostic as an object; lines and columns count from 1, 0 without a place.

    With `file`, a diagnostic in another file has no place, and names the file in its message.
    """
    span, message = diagnostic.span, diagnostic.message
    if file and span is not None and span.file != file:
        message, span = f"{span.file}:{span.line}: {message}", None
    return {
        "severity": diagnostic.severity,
        "rule": diagnostic.rule,
        "message": message,
        "hint": diagnostic.hint or "",
        "file": span.file if span else "",
        "line": span.line if span else 0,
        "column": span.column if span else 0,
        "endLine": span.end_line if span else 0,
        "endColumn": span.end_column if span else 0,
        "excerpt": diagnostic.excerpt or "",
    }


def error_object(error: FnbuildError) -> Raw:
    """Return the fields of an error that clients see."""
    report = error.report if isinstance(error, ConfigError) else ()
    return {
        "error": error.message,
        "errorStackTrace": error.detail or "",
        "hint": error.hint or "",
        "code": error.code,
        "diagnostics": [diagnostic_object(diagnostic) for diagnostic in report],
    }


def error_response(error: Exception) -> Response:
    """Return the response to a request that failed. Unexpected errors are logged in full."""
    if isinstance(error, RefusedError):
        return json_response(error_object(error), error.status, error.headers)
    if isinstance(error, FnbuildError):
        return json_response(error_object(error), error.http_status)
    if isinstance(error, HTTPException):
        code, message, hint = _ERRORS_BY_STATUS.get(
            error.status_code, ("error", error.detail, "/api/docs lists the endpoints")
        )
        refused = RefusedError(error.status_code, message, hint=hint, headers=error.headers)
        return json_response(
            error_object(refused) | {"code": code}, refused.status, refused.headers
        )
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # the client does not read it
    _log.error("internal error", exc_info=error)
    internal = FnbuildError(
        f"internal error: {type(error).__name__}",
        hint="the dashboard's own output on stderr has the details",
    )
    return json_response(error_object(internal), 500)


def text_field(values: Raw, key: str, owner: str) -> str:
    """Return the text at `key`, "" if it is missing; `owner` has the key, as in "a project"."""
    value = values.get(key)
    if not isinstance(value, str | None):
        raise UsageError(f"`{key}` of {owner} must be text")
    return value or ""


def text_map_field(values: Raw, key: str, owner: str) -> dict[str, str]:
    """Return the texts by name at `key`, {} if it is missing."""
    value = values.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise UsageError(
            f"`{key}` of {owner} must be texts by name", hint='as in {"team": "harbour"}'
        )
    return value


def object_field(values: Raw, key: str, owner: str, hint: str) -> Raw:
    """Return the object at `key`, which must exist."""
    value = values.get(key)
    if not isinstance(value, dict):
        raise UsageError(f"`{key}` of {owner} must be an object", hint=hint)
    return value


def optional_object_field(values: Raw, key: str, owner: str, hint: str) -> Raw:
    """Return the object at `key`, {} if it is missing or null."""
    return {} if values.get(key) is None else object_field(values, key, owner, hint)
