"""The page's session: who is here, and what this dashboard has."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fnbuild import __version__
from fnbuild.dashboard.auth.middleware import too_many_attempts
from fnbuild.dashboard.auth.tokens import SESSION_COOKIE, SESSION_SECONDS
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.http import RefusedError, json_response, read_json
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError


async def get_session(request: Request) -> Response:
    """What whoever asks may do, and which platforms there are."""
    services = services_of(request)
    await services.inventory.met()
    return json_response(
        {
            "role": request.state.role,
            "namespace": services.settings.namespace,
            "platform": services.inventory.platform().name,
            "platforms": [
                {"name": platform.name, "notices": notices}
                for platform, notices in services.inventory.shown()
            ],
            "version": __version__,
            "library": services.settings.library is not None,
        }
    )


async def sign_in(request: Request) -> Response:
    """Take a token or the code of a sign-in link, and give a cookie that stands for it."""
    services = services_of(request)
    token = (await read_json(request)).get("token")
    if not isinstance(token, str) or not token:
        raise UsageError("the body has no token", hint='send {"token": "…"}')
    peer = request.client.host if request.client else "unknown"
    role = services.tokens.role_of(token.strip())
    if role == "none" and services.sign_in.redeem(token.strip()):
        role = "write"
    if role == "none":
        wait = services.attempts.wait(peer)
        services.attempts.failed(peer)
        if wait:
            raise too_many_attempts(wait)
        raise RefusedError(
            401,
            "this is not the dashboard's token",
            hint="it was shown at the first start; `fnbuild dashboard token --new` makes another; a"
            " sign-in link works once, within 15 minutes",
        )
    answer = Response(status_code=204)
    answer.set_cookie(
        SESSION_COOKIE,
        services.tokens.session(role),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.headers.get("x-forwarded-proto") == "https",
    )
    return answer


async def sign_out(_: Request) -> Response:
    """Forget the cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return answer


_SESSION_SCHEMA = {
    "type": "object",
    "properties": {
        "role": {"enum": ["none", "read", "write"]},
        "namespace": {"type": "string"},
        "platform": {"type": "string"},
        "platforms": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "notices": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "version": {"type": "string"},
        "library": {"type": "boolean"},
    },
}
_TOKEN_SCHEMA = {
    "type": "object",
    "properties": {"token": {"type": "string"}},
    "required": ["token"],
}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/session",
        ("GET",),
        "open",
        get_session,
        "What you may do here, and what this dashboard has",
        gives={"application/json": _SESSION_SCHEMA},
    ),
    Endpoint(
        "/api/session",
        ("POST",),
        "open",
        sign_in,
        "Give a token and get a cookie for it",
        takes={"application/json": _TOKEN_SCHEMA},
        status=204,
    ),
    Endpoint("/api/session", ("DELETE",), "open", sign_out, "Forget the cookie", status=204),
)
