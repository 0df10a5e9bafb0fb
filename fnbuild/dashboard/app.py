"""The assembly: every module's endpoints as one application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from fnbuild.dashboard import (
    answers,
    audit,
    changes,
    checks,
    description,
    events,
    functions,
    invocations,
    live,
    logs,
    output,
    page,
    projects,
    revisions,
    session,
    statistics,
    surroundings,
    templates,
    uploading,
    validation,
)
from fnbuild.dashboard.endpoints import Endpoint, Handler
from fnbuild.dashboard.guard import Guard, admit
from fnbuild.dashboard.namespaces import check_namespace
from fnbuild.dashboard.services import Services
from fnbuild.dashboard.settings import Settings
from fnbuild.store import Store

_OF_NAMESPACES = tuple(
    f"x-nuclio-{one}-namespace" for one in ("function", "project", "function-event")
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *functions.ENDPOINTS,
    *changes.ENDPOINTS,
    *output.ENDPOINTS,
    *revisions.ENDPOINTS,
    *logs.ENDPOINTS,
    *statistics.ENDPOINTS,
    *invocations.ENDPOINTS,
    *projects.ENDPOINTS,
    *templates.ENDPOINTS,
    *uploading.ENDPOINTS,
    *validation.ENDPOINTS,
    *checks.ENDPOINTS,
    *events.ENDPOINTS,
    *surroundings.ENDPOINTS,
    *live.ENDPOINTS,
    *session.ENDPOINTS,
    *audit.ENDPOINTS,
    *description.ENDPOINTS,
)


def create(settings: Settings, store: Store) -> Starlette:
    """The application, which runs what works in the background while it is served."""
    services = Services.of(settings, store)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with services.running():
            yield

    app = Starlette(
        routes=_routes(),
        lifespan=lifespan,
        middleware=[Middleware(Guard, services.tokens, services.attempts, settings.allowed_hosts)],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.description = description.document(ENDPOINTS)
    return app


def _routes() -> list[BaseRoute]:
    by_path: dict[str, list[Endpoint]] = {}
    for one in ENDPOINTS:
        by_path.setdefault(one.path, []).append(one)
    made: list[BaseRoute] = [_route(path, ones) for path, ones in by_path.items()]
    made += health_routes()
    return [*made, *page.routes()]


def health_routes() -> list[BaseRoute]:
    """Nuclio's two addresses for whoever watches over it (cmd/dashboard/app/dashboard.go)."""
    return [Route("/live", _well), Route("/ready", _well)]


async def _well(_: Request) -> Response:
    return PlainTextResponse("OK")


def _route(path: str, endpoints: list[Endpoint]) -> Route:
    by_method = {method: one for one in endpoints for method in one.methods}
    return Route(path, _answering(by_method), methods=list(by_method))


def _answering(by_method: dict[str, Endpoint]) -> Handler:
    """The handler of one path: admits, limits the body, and answers whatever is raised."""

    async def answer(request: Request) -> Response:
        # Starlette gives HEAD to whatever takes GET.
        only_head = request.method not in by_method
        endpoint = by_method["GET" if only_head else request.method]
        try:
            admit(request, endpoint.access)
            _check_namespaces(request)
            answered = await endpoint.handler(_limited(request, endpoint.limit))
        except Exception as error:  # noqa: BLE001 - the edge: a client gets an answer
            answered = answers.of_error(error)
        if only_head:
            # A stream would never end.
            return Response(status_code=answered.status_code, headers=dict(answered.headers))
        return answered

    return answer


def _check_namespaces(request: Request) -> None:
    for header in _OF_NAMESPACES:
        if name := request.headers.get(header):
            check_namespace(name, header)


def _limited(request: Request, limit: int | None) -> Request:
    if limit is None:
        return request
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > limit):
        raise answers.too_large(limit)
    return Request(request.scope, answers.limited(request.receive, limit))


async def _refused(_: Request, error: Exception) -> Response:
    return answers.of_error(error)
