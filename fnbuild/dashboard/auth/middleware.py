"""Authentication middleware for every request to the dashboard.

It checks the Host and Origin headers (against DNS rebinding and pages of other sites), determines
the role and actor of the request, and adds the headers that keep pages from being framed and from
running foreign scripts. `require_access` checks the role once the endpoint is known.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fnbuild.dashboard import http
from fnbuild.dashboard.auth.tokens import (
    SESSION_COOKIE,
    FailedAttempts,
    Role,
    Tokens,
    allows,
    cookie_value,
    presented_tokens,
    strongest,
)
from fnbuild.dashboard.http import RefusedError
from fnbuild.platforms.audit import acting_as
from fnbuild.runtime.http.sites import AllowedHosts, is_same_origin

OPEN_KEY = "fnbuild.open"
"""Key of a request's scope; its value is True at an address that is open for reading."""

INVOCATIONS_PATH = "/api/function_invocations"

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class AuthMiddleware:
    """Middleware that checks Host and Origin, and determines the role of each request.

    Its only state is the failed attempts of the last minute. A valid token is accepted regardless
    of failed attempts from its address: tokens cannot be guessed, and wrong ones must not lock out
    others.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        failed_attempts: FailedAttempts,
        allowed_hosts: frozenset[str],
    ):
        self._app = app
        self._tokens = tokens
        self._failed_attempts = failed_attempts
        self._hosts = AllowedHosts(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/") or "/"
        scope["path"] = path
        send = _with_security_headers(send, path)
        headers = Headers(scope=scope)
        try:
            self._check_host_and_origin(headers)
        except RefusedError as error:
            await http.error_response(error)(scope, receive, send)
            return
        self._identify(scope, headers)
        acting_as.set(scope["state"]["actor"])
        await self._app(scope, receive, send)

    def _check_host_and_origin(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        for host in hosts:
            if not self._hosts.allow(host):
                raise RefusedError(
                    421,
                    f"this dashboard is not known as {host[:100]!r}",
                    hint="start it with `--allowed-host NAME`, or use its address",
                )
        origin = headers.get("origin")
        if origin is not None and not any(is_same_origin(origin, host) for host in hosts):
            raise RefusedError(
                403,
                f"a page of {origin[:100]!r} may not use this dashboard",
                hint="open the dashboard's own page; programs send no Origin header",
            )

    def _identify(self, scope: Scope, headers: Headers) -> None:
        client = scope.get("client")
        peer = client[0] if client else "unknown"
        role: Role = self._tokens.session_role(cookie_value(headers, SESSION_COOKIE))
        wait = 0
        tokens = presented_tokens(headers)
        if tokens and role != "write":
            presented_role = strongest(self._tokens.token_role(token) for token in tokens)
            # If no token is needed to invoke, the credentials may be meant for the function.
            is_forwarded = scope.get(OPEN_KEY) and scope["path"].startswith(INVOCATIONS_PATH)
            if presented_role == "none" and not is_forwarded:
                wait = self._failed_attempts.seconds_to_wait(peer)
                self._failed_attempts.add(peer)
            role = strongest((role, presented_role))
        prefix = "" if role == "none" else f"token {role} from "
        state = scope.setdefault("state", {})
        state["role"] = strongest((role, "read")) if scope.get(OPEN_KEY) else role
        state["actor"] = f"{prefix}{peer}"
        state["wait"] = wait


def require_access(request: Request, access: str) -> None:
    """Raise `RefusedError` unless the request has the role that the endpoint needs."""
    state = request.scope["state"]
    role: Role = state["role"]
    if allows(role, access):
        return
    if state["wait"]:
        raise too_many_attempts(state["wait"])
    if role != "none" and state["actor"].startswith("token "):
        raise RefusedError(
            403,
            "this token may read, but not change anything",
            hint="use the write token; `fnbuild dashboard token --new` creates a new one",
        )
    raise RefusedError(
        401,
        "this needs the dashboard's token",
        hint="send it as `Authorization: Bearer TOKEN`; `fnbuild dashboard token --new` creates"
        " a new one if it is lost",
        headers={} if _is_from_browser(request) else {"www-authenticate": 'Basic realm="fnbuild"'},
    )


def is_writer(request: Request) -> bool:
    """Return True if the request has the write role."""
    role: Role = request.scope["state"]["role"]
    return allows(role, "write")


def too_many_attempts(seconds: int) -> RefusedError:
    """Return the error for an address that has sent too many wrong tokens."""
    return RefusedError(
        429,
        "too many wrong tokens came from this address",
        hint=f"try again in {seconds} seconds, with the right token",
        headers={"retry-after": str(seconds)},
    )


def _is_from_browser(request: Request) -> bool:
    # With the header, a browser would open a password dialog above the page.
    agent = request.headers.get("user-agent", "")
    return "origin" in request.headers or agent.startswith("Mozilla/")


def _with_security_headers(send: Send, path: str) -> Send:
    api = path.startswith("/api/")

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store" if api else "no-cache")
        await send(message)

    return secured
