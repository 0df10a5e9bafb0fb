"""Projects of all platforms as one list (pkg/dashboard/resource/project.go).

A project is made on the default platform, and on others when a function of it comes there: one that
any platform has is there. What several know of one is taken together, the default platform first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard import transfer
from fnbuild.dashboard.answers import json_body, json_response
from fnbuild.dashboard.asking import ask
from fnbuild.dashboard.changes import begin_delete
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.fields import mapping_of, text_of, texts_of
from fnbuild.dashboard.guard import is_writer
from fnbuild.dashboard.listed import Listed
from fnbuild.dashboard.namespaces import check_namespace, is_true, named_in, with_secrets
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.services import Services, services_of
from fnbuild.deploy.projects import DEFAULT_PROJECT
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    PreconditionError,
    UsageError,
)
from fnbuild.platforms import Platform, Project, api_objects
from fnbuild.spec.types import Raw

NAMESPACE = "x-nuclio-project-namespace"
_WHAT = "a project"
_HINT = '{"metadata": {"name": …}}'
STRATEGY = "x-nuclio-delete-project-strategy"
STRATEGIES = ("restricted", "cascading", "check")

_PATIENCE = 2.0


async def known(services: Services, namespace: str) -> dict[str, Project]:
    """The projects that any platform has, by name. A silent platform says nothing."""
    found: dict[str, Project] = {}
    for _, listed in await _listed(services, namespace):
        for one in listed:
            first = found.get(one.name, one)
            found[one.name] = Project(
                one.name,
                namespace,
                first.description or one.description,
                first.owner or one.owner,
                one.labels | first.labels,
                one.annotations | first.annotations,
            )
    found.setdefault(DEFAULT_PROJECT, Project(DEFAULT_PROJECT, namespace))
    return {name: found[name] for name in sorted(found)}


async def _listed(services: Services, namespace: str) -> list[tuple[Platform, list[Project]]]:
    """The projects of each platform, the default one's first."""
    platforms = [platform for platform, _ in services.inventory.shown()]
    answers = await asyncio.gather(*(_asked(one, namespace) for one in platforms))
    return list(zip(platforms, answers, strict=True))


async def _asked(platform: Platform, namespace: str) -> list[Project]:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await ask(platform.projects, namespace)
    except (FnbuildError, TimeoutError):
        return []


async def every(request: Request) -> Response:
    """All projects as an object by name, or with `export` all that `import` takes."""
    services, namespace = services_of(request), named_in(request, NAMESPACE)
    found = await known(services, namespace)
    if is_true(request, "export"):
        listed = {name: await _exported(request, project) for name, project in found.items()}
        return json_response(listed)
    return json_response({name: project_object(one) for name, one in found.items()})


async def one(request: Request) -> Response:
    services = services_of(request)
    project = await _one(services, named_in(request, NAMESPACE), request.path_params["name"])
    if is_true(request, "export"):
        return json_response(await _exported(request, project))
    return json_response(project_object(project))


async def _exported(request: Request, project: Project) -> Raw:
    options = ExportOptions(is_writer(request), with_secrets(request))
    raw = project_object(project)
    return await transfer.exported(services_of(request), raw, project, options)


async def create(request: Request) -> Response:
    """Make a project; with `import` with the functions that an export of it has."""
    services, body = services_of(request), await json_body(request)
    if is_true(request, "import"):
        project = _read(request, transfer.project_of(body))
        await _made(services, project)
        return json_response(await transfer.imported(services, project, body), 201)
    project = _read(request, body)
    if project.name in await known(services, project.namespace) or not await _made(
        services, project
    ):
        raise ConflictError(
            f"Project already exists: {project.name}", hint="PUT changes one that is there"
        )
    return json_response(project_object(project), 201)


async def update(request: Request) -> Response:
    """Put the project in place of what is there, on each platform."""
    services = services_of(request)
    project = _read(request, await json_body(request))
    named = request.path_params.get("name", project.name)
    if named != project.name:
        raise UsageError(
            f"the body is about project {project.name}, the address about {named}",
            hint="a project cannot be renamed",
        )
    await _one(services, project.namespace, project.name)
    await _on_each(services, project, lambda platform: platform.update_project(project))
    headers = {} if "name" in request.path_params else {"Deprecation": "true"}
    return Response(status_code=204, headers=headers)


async def delete(request: Request) -> Response:
    """Remove a project from every platform, by the strategy of Nuclio's header."""
    services = services_of(request)
    strategy = request.headers.get(STRATEGY) or "restricted"
    if strategy not in STRATEGIES:
        raise UsageError(
            f"there is no strategy {strategy[:50]!r} to delete a project",
            hint=f"one of: {', '.join(STRATEGIES)}",
        )
    if name := request.path_params.get("name"):
        project = Project(name, named_in(request, NAMESPACE))
    else:
        project = _read(request, await json_body(request))
    cascade = strategy == "cascading"
    members = await _deletable(services, project, cascade=cascade)
    if strategy == "check":
        return Response(status_code=204)
    # Each by a change of its own, so that none is deleted while it is deployed.
    begun = [await begin_delete(request, member) for member in members]
    for operation in begun:
        await services.operations.outcome(operation)
    await _on_each(services, project, partial(_delete_from, project, cascade))
    services.inventory.changed()
    return Response(status_code=204)


def _delete_from(project: Project, cascade: bool, platform: Platform) -> bool:
    return platform.delete_project(project.namespace, project.name, cascade=cascade)


async def _deletable(services: Services, project: Project, *, cascade: bool) -> list[Listed]:
    """The functions that go with the project; raises when it has to stay."""
    if project.name == DEFAULT_PROJECT:
        raise PreconditionError("Cannot delete the default project")
    await _one(services, project.namespace, project.name)
    services.inventory.changed()
    members = await services.inventory.functions(project.namespace, project.name)
    if members and not cascade:
        raise PreconditionError(
            f"Project contains functions: {', '.join(one.name for one in members)}",
            hint=f"delete them first, or with the header {STRATEGY}: cascading",
        )
    return members


async def _made(services: Services, project: Project) -> bool:
    """Record it on the default platform, unless any has it; whether it is new."""
    if project.name in await known(services, project.namespace):
        return False
    platform = services.inventory.platform()
    return await anyio.to_thread.run_sync(platform.create_project, project)


async def _on_each(
    services: Services, project: Project, change: Callable[[Platform], object]
) -> None:
    """Make the change on every platform that has the project. What fails comes at the end."""
    failed = []
    for platform, listed in await _listed(services, project.namespace):
        if project.name not in [one.name for one in listed]:
            continue
        try:
            await anyio.to_thread.run_sync(change, platform)
        except FnbuildError as error:
            failed.append(error)
    if failed:
        raise failed[0]


async def _one(services: Services, namespace: str, name: str) -> Project:
    found = (await known(services, namespace)).get(name)
    if found is None:
        raise NotFoundError("Project not found", hint=f"no platform has {name!r} in {namespace}")
    return found


def project_object(project: Project) -> Raw:
    """Nuclio's shape. Clients read `spec` without asking whether it is there."""
    return {**api_objects.project_object(project), "status": {}}


def _read(request: Request, body: Raw) -> Project:
    """The project of a body; `UsageError` for a name that none can have."""
    given = {"spec": {}, **{key: one for key, one in body.items() if one is not None}}
    metadata, spec = (mapping_of(given, key, _WHAT, _HINT) for key in ("metadata", "spec"))
    namespace = text_of(metadata, "namespace", _WHAT) or named_in(request, NAMESPACE)
    check_namespace(namespace, "metadata.namespace")
    return Project(
        text_of(metadata, "name", _WHAT),
        namespace,
        text_of(spec, "description", _WHAT),
        text_of(spec, "owner", _WHAT),
        texts_of(metadata, "labels", _WHAT),
        texts_of(metadata, "annotations", _WHAT),
    )


_ALL, _ONE = "/api/projects", "/api/projects/{name}"
_WHERE = {NAMESPACE: "The namespace; the dashboard's own without."}
_HOW = {**_WHERE, STRATEGY: "restricted (only when empty), cascading (with functions) or check."}
_EXPORT = {
    **_WHERE,
    "?export": "`true` adds the functions and their events, for an import.",
    "?with-secrets": "With `export`, `true` keeps secret values: needs the write token.",
}
_IMPORT = {**_WHERE, "?import": "`true` takes what an export gave."}
_JSON = {"application/json": {"type": "object"}}


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(_ALL, ("GET",), "read", every, "List projects by name.", _EXPORT, gives=_JSON),
    Endpoint(_ONE, ("GET",), "read", one, "Get a project.", _EXPORT, gives=_JSON),
    Endpoint(
        _ALL, ("POST",), "write", create, "Make a project.", _IMPORT, _JSON, _JSON, status=201
    ),
    Endpoint(_ONE, ("PUT",), "write", update, "Change a project.", _WHERE, _JSON, status=204),
    Endpoint(_ALL, ("PUT",), "write", update, "Change a project.", _WHERE, _JSON, status=204),
    Endpoint(_ALL, ("DELETE",), "write", delete, "Delete a project.", _HOW, _JSON, status=204),
    Endpoint(_ONE, ("DELETE",), "write", delete, "Delete a project.", _HOW, status=204),
)
