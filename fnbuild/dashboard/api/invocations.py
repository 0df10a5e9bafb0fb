"""Invoking a function through the dashboard: Nuclio's headers say which one, and how.

As pkg/dashboard/resource/function_invocation.go does it: the path behind /api/function_invocations
means nothing, the function's own comes in a header.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.auth.tokens import SESSION_COOKIE, Tokens, presented_tokens
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.relay import Invocation, forwarded_headers
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError
from fnbuild.function.quantities import parse_duration

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_DEFAULT_SECONDS = 60.0
_LOGS_HEADER = "x-fnbuild-logs"
# What a URL may have as it is; everything else is percent-encoded.
_URL_SAFE = "!$%&'()*+,/:;=?@[]~"


async def invoke(request: Request) -> Response:
    services = services_of(request)
    headers = request.headers
    name = headers.get("x-nuclio-function-name", "").strip()
    if not name:
        raise UsageError(
            "Function name must be provided", hint="the header X-Nuclio-Function-Name names it"
        )
    call = Invocation(
        namespace=headers.get("x-nuclio-function-namespace") or services.settings.namespace,
        name=name,
        path=quote(_path(headers), safe=_URL_SAFE),
        headers=[*_function_headers(request, services.tokens), ("x-nuclio-target", name)],
        url=headers.get("x-nuclio-invoke-url", ""),
        timeout=_timeout(headers.get("x-nuclio-invoke-timeout", "")),
        verify=not _has_flag(headers, "x-nuclio-skip-tls-verification"),
        logs=_has_flag(headers, _LOGS_HEADER),
    )
    return services.relay.reply(call)


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


def _has_flag(headers: Headers, name: str) -> bool:
    return headers.get(name, "").strip().lower() == "true"


def _function_headers(request: Request, tokens: Tokens) -> list[tuple[str, str]]:
    """The caller's headers, without credentials that are for the dashboard."""
    passed = forwarded_headers(
        request.scope["headers"], frozenset({_LOGS_HEADER, "x-nuclio-target"})
    )
    return [
        (name, value)
        for name, whole in passed
        for value in [_function_cookies(whole, tokens) if name == "cookie" else whole]
        if value and not (name == "authorization" and _has_dashboard_token(name, value, tokens))
    ]


def _function_cookies(cookies: str, tokens: Tokens) -> str:
    kept = [
        one
        for one in cookies.split(";")
        if one.partition("=")[0].strip() != SESSION_COOKIE
        and not _has_dashboard_token("cookie", one, tokens)
    ]
    return ";".join(kept).strip()


def _has_dashboard_token(header: str, value: str, tokens: Tokens) -> bool:
    """Whether a header carries a token of this dashboard."""
    found = presented_tokens(Headers({header: value}))
    return any(tokens.role_of(one) != "none" for one in found)


_PARAMETERS = {
    "X-Nuclio-Function-Name": "The function; required.",
    "X-Nuclio-Function-Namespace": "Its namespace, else the dashboard's.",
    "X-Nuclio-Path": "Path and query at the function.",
    "X-Nuclio-Invoke-Url": "Which of the function's addresses to use.",
    "X-Nuclio-Invoke-Timeout": "How long the caller waits, as in 90s; 60s by default.",
    "X-Nuclio-Skip-Tls-Verification": "`true` takes any certificate of the function.",
    "X-Nuclio-Log-Level": "For the function: which log records to send back.",
    "X-Fnbuild-Logs": "`true` keeps the function's X-Nuclio-Logs in the reply.",
}

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    Endpoint(
        path,
        _METHODS,
        "read",
        invoke,
        "Call a function; its reply comes back as it is",
        parameters=_PARAMETERS,
        takes={"*/*": {}},
        gives={"*/*": {}},
        limit=None,
    )
    for path in ("/api/function_invocations", "/api/function_invocations/{rest:path}")
)
