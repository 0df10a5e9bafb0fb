"""Invoke a function through the dashboard, as Nuclio's headers specify.

As in pkg/dashboard/resource/function_invocation.go, the path after /api/function_invocations is
ignored; the function's own path is in a header.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.auth.tokens import SESSION_COOKIE, Tokens, presented_tokens
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.relay import Invocation, forwarded_headers
from fnbuild.dashboard.requests import NAME_HEADER, function_namespace
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError
from fnbuild.function.quantities import parse_duration

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_DEFAULT_SECONDS = 60.0
_LOGS_HEADER = "x-fnbuild-logs"
# The page that sent the request was checked here; for the function it would be another site.
_PAGE_HEADERS = ("origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user")
_NOT_FORWARDED = frozenset({_LOGS_HEADER, "x-nuclio-target", *_PAGE_HEADERS})
# Characters that stay as they are in a URL; others are percent-encoded.
_URL_SAFE = "!$%&'()*+,/:;=?@[]~"


async def invoke(request: Request) -> Response:
    """Invoke the function in the headers, and stream its reply."""
    services = services_of(request)
    headers = request.headers
    name = headers.get(NAME_HEADER, "").strip()
    if not name:
        raise UsageError(
            "Function name must be provided", hint="the header X-Nuclio-Function-Name names it"
        )
    invocation = Invocation(
        namespace=function_namespace(request),
        name=name,
        path=quote(_path(headers), safe=_URL_SAFE),
        headers=[*_function_headers(request, services.tokens), ("x-nuclio-target", name)],
        url=headers.get("x-nuclio-invoke-url", ""),
        timeout=_timeout(headers.get("x-nuclio-invoke-timeout", "")),
        verify=not _is_true(headers, "x-nuclio-skip-tls-verification"),
        logs=_is_true(headers, _LOGS_HEADER),
    )
    return services.relay.response(invocation)


def _path(headers: Headers) -> str:
    raw = headers.get("x-nuclio-path", "").encode("latin-1")
    return raw.decode(errors="replace").strip().removeprefix("/")


def _timeout(text: str) -> float:
    if not text:
        return _DEFAULT_SECONDS
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"X-Nuclio-Invoke-Timeout: {error}", hint="as in 90s or 5m") from error
    if seconds <= 0:
        raise UsageError(
            f"X-Nuclio-Invoke-Timeout: {text} leaves no time for an answer", hint="as in 90s or 5m"
        )
    return seconds


def _is_true(headers: Headers, name: str) -> bool:
    return headers.get(name, "").strip().lower() == "true"


def _function_headers(request: Request, tokens: Tokens) -> list[tuple[str, str]]:
    """Return the caller's headers without credentials of the dashboard."""
    headers = forwarded_headers(request.scope["headers"], _NOT_FORWARDED)
    kept = []
    for name, value in headers:
        forwarded = _function_cookies(value, tokens) if name == "cookie" else value
        is_for_dashboard = name == "authorization" and _has_dashboard_token(name, value, tokens)
        if forwarded and not is_for_dashboard:
            kept.append((name, forwarded))
    return kept


def _function_cookies(header: str, tokens: Tokens) -> str:
    cookies = [
        cookie
        for cookie in header.split(";")
        if cookie.partition("=")[0].strip() != SESSION_COOKIE
        and not _has_dashboard_token("cookie", cookie, tokens)
    ]
    return ";".join(cookies).strip()


def _has_dashboard_token(header: str, value: str, tokens: Tokens) -> bool:
    """Return True if a header has a token of this dashboard."""
    credentials = presented_tokens(Headers({header: value}))
    return any(tokens.token_role(token) != "none" for token in credentials)


_PARAMETERS = {
    "X-Nuclio-Function-Name": "The function; required.",
    "X-Nuclio-Function-Namespace": "Its namespace; by default the dashboard's own.",
    "X-Nuclio-Path": "The path and query of the request to the function.",
    "X-Nuclio-Invoke-Url": "The one of the function's URLs to use.",
    "X-Nuclio-Invoke-Timeout": "The time limit, as in 90s; 60s by default.",
    "X-Nuclio-Skip-Tls-Verification": "`true` accepts any certificate of the function.",
    "X-Nuclio-Log-Level": "The lowest level of the log records that the function returns.",
    "X-Fnbuild-Logs": "`true` keeps the function's X-Nuclio-Logs in the reply.",
}

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    Endpoint(
        path,
        method,
        "read",
        invoke,
        "Invoke a function and return its reply unchanged",
        parameters=_PARAMETERS,
        request_content={"*/*": {}},
        response_content={"*/*": {}},
        limit=None,
    )
    for path in ("/api/function_invocations", "/api/function_invocations/{rest:path}")
    for method in _METHODS
)
