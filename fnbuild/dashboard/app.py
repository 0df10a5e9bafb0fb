"""The ASGI application of a dashboard, with the endpoints of every module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from fnbuild.dashboard import http, page
from fnbuild.dashboard.api import (
    audit,
    checks,
    events,
    functions,
    invocations,
    library,
    live,
    logs,
    nuclio,
    openapi,
    projects,
    reply_findings,
    revisions,
    sleep,
    statistics,
)
from fnbuild.dashboard.auth import api as auth_api
from fnbuild.dashboard.auth.middleware import AuthMiddleware, require_access
from fnbuild.dashboard.endpoints import Endpoint, Handler
from fnbuild.dashboard.operations import api as operations_api
from fnbuild.dashboard.requests import check_namespace
from fnbuild.dashboard.services import Services
from fnbuild.dashboard.settings import Settings
from fnbuild.store import Store

_NAMESPACE_HEADERS = tuple(
    f"x-nuclio-{kind}-namespace" for kind in ("function", "project", "function-event")
)

_MODULES = (
    functions,
    operations_api,
    revisions,
    sleep,
    logs,
    statistics,
    reply_findings,
    invocations,
    projects,
    library,
    checks,
    events,
    nuclio,
    live,
    auth_api,
    audit,
    openapi,
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint for module in _MODULES for endpoint in module.ENDPOINTS
)


def create_app(settings: Settings, store: Store) -> Starlette:
    """Return the application, which runs its background services while it is served."""
    services = Services.create(settings, store)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with services.running():
            yield

    app = Starlette(
        routes=_routes(),
        lifespan=lifespan,
        middleware=[
            Middleware(
                AuthMiddleware, services.tokens, services.failed_attempts, settings.allowed_hosts
            )
        ],
        exception_handlers={HTTPException: _handle_http_exception},
    )
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.description = openapi.make_document(ENDPOINTS)
    return app


def _routes() -> list[BaseRoute]:
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    routes = [_route(path, endpoints) for path, endpoints in by_path.items()]
    return [*routes, *health_routes(), *page.routes()]


def health_routes() -> list[BaseRoute]:
    """Return the routes of Nuclio's two health checks (cmd/dashboard/app/dashboard.go)."""
    return [Route("/live", _report_healthy), Route("/ready", _report_healthy)]


async def _report_healthy(_: Request) -> Response:
    return PlainTextResponse("OK")


def _route(path: str, endpoints: list[Endpoint]) -> Route:
    by_method = {endpoint.method: endpoint for endpoint in endpoints}
    return Route(path, _dispatcher(by_method), methods=list(by_method))


def _dispatcher(by_method: dict[str, Endpoint]) -> Handler:
    """Return the handler of a path, which checks access, limits the body and handles errors."""

    async def dispatch(request: Request) -> Response:
        # Starlette adds HEAD to routes with GET.
        is_head = request.method not in by_method
        endpoint = by_method["GET" if is_head else request.method]
        try:
            require_access(request, endpoint.access)
            _check_namespaces(request)
            response = await endpoint.handler(_with_body_limit(request, endpoint.limit))
        except Exception as error:  # noqa: BLE001 - every request gets a response
            response = http.error_response(error)
        if is_head:
            # A stream would never end.
            return Response(status_code=response.status_code, headers=dict(response.headers))
        return response

    return dispatch


def _check_namespaces(request: Request) -> None:
    for header in _NAMESPACE_HEADERS:
        if name := request.headers.get(header):
            check_namespace(name, header)


def _with_body_limit(request: Request, limit: int | None) -> Request:
    if limit is None:
        return request
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > limit):
        raise http.body_too_large(limit)
    return Request(request.scope, http.limit_body(request.receive, limit))


async def _handle_http_exception(_: Request, error: Exception) -> Response:
    return http.error_response(error)
