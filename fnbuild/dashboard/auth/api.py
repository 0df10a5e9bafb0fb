"""Sessions of the page: its role, sign-in and sign-out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fnbuild import __version__
from fnbuild.dashboard.auth.middleware import too_many_attempts
from fnbuild.dashboard.auth.tokens import SESSION_COOKIE, SESSION_SECONDS
from fnbuild.dashboard.endpoints import TEXT, Endpoint, array_of, json_content
from fnbuild.dashboard.http import RefusedError, json_response, read_json
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError


async def get_session(request: Request) -> Response:
    """Return the role of the request, and the platforms of this dashboard."""
    services = services_of(request)
    await services.inventory.wait_for_platforms()
    return json_response(
        {
            "role": request.state.role,
            "namespace": services.settings.namespace,
            "platform": services.inventory.platform().name,
            "platforms": [
                {
                    "name": platform.name,
                    "notices": notices,
                    "clusterNames": platform.needs_kubernetes_names,
                }
                for platform, notices in services.inventory.platforms()
            ],
            "version": __version__,
            "library": services.settings.library is not None,
        }
    )


async def sign_in(request: Request) -> Response:
    """Exchange a token, or the code of a sign-in link, for a session cookie."""
    services = services_of(request)
    token = (await read_json(request)).get("token")
    if not isinstance(token, str) or not token:
        raise UsageError("the body has no token", hint='send {"token": "…"}')
    peer = request.client.host if request.client else "unknown"
    role = services.tokens.token_role(token.strip())
    if role == "none" and services.sign_in_codes.redeem(token.strip()):
        role = "write"
    if role == "none":
        wait = services.failed_attempts.seconds_to_wait(peer)
        services.failed_attempts.add(peer)
        if wait:
            raise too_many_attempts(wait)
        raise RefusedError(
            401,
            "this is not the dashboard's token",
            hint="it was shown at the first start; `fnbuild dashboard token --new` creates a new"
            " one; a sign-in link works once, within 15 minutes",
        )
    response = Response(status_code=204)
    response.set_cookie(
        SESSION_COOKIE,
        services.tokens.create_session(role),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.headers.get("x-forwarded-proto") == "https",
    )
    return response


async def sign_out(_: Request) -> Response:
    """Delete the session cookie."""
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response


_PLATFORM = {
    "name": TEXT,
    "notices": {"type": "array", "items": TEXT},
    "clusterNames": {"type": "boolean"},
}
_SESSION = json_content(
    {
        "role": {"enum": ["none", "read", "write"]},
        "namespace": TEXT,
        "platform": TEXT,
        "platforms": array_of(_PLATFORM),
        "version": TEXT,
        "library": {"type": "boolean"},
    }
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/session",
        "GET",
        "open",
        get_session,
        "Get the role of the request and the platforms of the dashboard",
        response_content=_SESSION,
    ),
    Endpoint(
        "/api/session",
        "POST",
        "open",
        sign_in,
        "Sign in: exchange a token for a session cookie",
        request_content=json_content({"token": TEXT}, "token"),
        status=204,
    ),
    Endpoint(
        "/api/session",
        "DELETE",
        "open",
        sign_out,
        "Sign out: delete the session cookie",
        status=204,
    ),
)
