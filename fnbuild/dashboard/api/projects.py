"""The projects of all platforms (pkg/dashboard/resource/project.go).

A project is created on the default platform, and on others when one of its functions comes there.
A project exists if any platform has it. Its fields are merged, the default platform's first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.api import project_exports
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import JSON_OBJECT, Endpoint
from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.http import (
    json_response,
    object_field,
    optional_object_field,
    read_json,
    text_field,
    text_map_field,
)
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.operations.api import begin_delete
from fnbuild.dashboard.polling import ANSWER_SECONDS
from fnbuild.dashboard.requests import (
    check_namespace,
    has_query_flag,
    namespace_in_header,
    wants_secrets,
)
from fnbuild.dashboard.services import Services, services_of
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.types import Raw
from fnbuild.names import DEFAULT_PROJECT
from fnbuild.platforms import Platform, Project, api_objects

PROJECT_NAMESPACE_HEADER = "x-nuclio-project-namespace"
_PROJECT = "a project"
_PROJECT_HINT = '{"metadata": {"name": …}}'
STRATEGY_HEADER = "x-nuclio-delete-project-strategy"
STRATEGIES = ("restricted", "cascading", "check")


async def merged_projects(services: Services, namespace: str) -> dict[str, Project]:
    """Return the projects that any platform has, by name. Platforms in an outage are skipped."""
    merged: dict[str, Project] = {}
    for _, projects in await _projects_by_platform(services, namespace):
        for project in projects:
            first = merged.get(project.name, project)
            merged[project.name] = Project(
                project.name,
                namespace,
                first.description or project.description,
                first.owner or project.owner,
                project.labels | first.labels,
                project.annotations | first.annotations,
            )
    merged.setdefault(DEFAULT_PROJECT, Project(DEFAULT_PROJECT, namespace))
    return {name: merged[name] for name in sorted(merged)}


async def _projects_by_platform(
    services: Services, namespace: str
) -> list[tuple[Platform, list[Project]]]:
    """Return the projects of each platform, the default one's first."""
    platforms = [platform for platform, _ in services.inventory.platforms()]
    projects = await asyncio.gather(
        *(_platform_projects(platform, namespace) for platform in platforms)
    )
    return list(zip(platforms, projects, strict=True))


async def _platform_projects(platform: Platform, namespace: str) -> list[Project]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await run_in_thread(platform.projects, namespace)
    except (FnbuildError, TimeoutError):
        return []


async def list_projects(request: Request) -> Response:
    """List projects as an object by name, or with `export` as an import takes them."""
    projects = await merged_projects(services_of(request), _request_namespace(request))
    if has_query_flag(request, "export"):
        exports = {name: await _export(request, project) for name, project in projects.items()}
        return json_response(exports)
    return json_response({name: project_object(project) for name, project in projects.items()})


async def get_project(request: Request) -> Response:
    name = request.path_params["name"]
    project = await _find_project(services_of(request), _request_namespace(request), name)
    if has_query_flag(request, "export"):
        return json_response(await _export(request, project))
    return json_response(project_object(project))


def _request_namespace(request: Request) -> str:
    return namespace_in_header(request, PROJECT_NAMESPACE_HEADER)


async def _export(request: Request, project: Project) -> Raw:
    options = ExportOptions(is_writer(request), wants_secrets(request))
    return await project_exports.export_project(services_of(request), project, options)


async def create_project(request: Request) -> Response:
    """Create a project; with `import` also the functions in an export of it."""
    services, body = services_of(request), await read_json(request)
    if has_query_flag(request, "import"):
        project = _read_project(request, project_exports.exported_project(body))
        await _create_if_missing(services, project)
        result = await project_exports.import_project(services, project, body)
        return json_response(result, 201)
    project = _read_project(request, body)
    if not await _create_if_missing(services, project):
        raise ConflictError(
            f"Project already exists: {project.name}", hint="PUT changes the existing one"
        )
    return json_response(project_object(project), 201)


async def update_project(request: Request) -> Response:
    """Replace the project on each platform that has it."""
    services = services_of(request)
    project = _read_project(request, await read_json(request))
    path_name = request.path_params.get("name", project.name)
    if path_name != project.name:
        raise UsageError(
            f"the body has the project {project.name}, the path {path_name}",
            hint="a project cannot be renamed",
        )
    await _find_project(services, project.namespace, project.name)
    await _apply_to_platforms(services, project, lambda platform: platform.update_project(project))
    headers = {} if "name" in request.path_params else {"Deprecation": "true"}
    return Response(status_code=204, headers=headers)


async def delete_project(request: Request) -> Response:
    """Delete a project from every platform with the strategy in Nuclio's header."""
    services = services_of(request)
    strategy = request.headers.get(STRATEGY_HEADER) or "restricted"
    if strategy not in STRATEGIES:
        raise UsageError(
            f"there is no strategy {strategy[:50]!r} to delete a project",
            hint=f"one of: {', '.join(STRATEGIES)}",
        )
    if name := request.path_params.get("name"):
        project = Project(name, _request_namespace(request))
    else:
        project = _read_project(request, await read_json(request))
    cascade = strategy == "cascading"
    entries = await _functions_to_delete(services, project, cascade=cascade)
    if strategy == "check":
        return Response(status_code=204)
    # Each with an operation of its own, so that no function is deleted during a deploy.
    operations = [await begin_delete(request, entry) for entry in entries]
    for operation in operations:
        await services.operations.wait_for_success(operation)
    await _apply_to_platforms(services, project, partial(_delete_from, project, cascade))
    services.inventory.invalidate()
    return Response(status_code=204)


def _delete_from(project: Project, cascade: bool, platform: Platform) -> bool:
    return platform.delete_project(project.namespace, project.name, cascade=cascade)


async def _functions_to_delete(
    services: Services, project: Project, *, cascade: bool
) -> list[FunctionEntry]:
    """Return the functions to delete with a project. Raises if it cannot be deleted."""
    if project.name == DEFAULT_PROJECT:
        raise PreconditionError("Cannot delete the default project")
    await _find_project(services, project.namespace, project.name)
    services.inventory.invalidate()
    entries = await services.inventory.functions(project.namespace, project.name)
    if entries and not cascade:
        raise PreconditionError(
            f"Project contains functions: {', '.join(entry.name for entry in entries)}",
            hint=f"delete them first, or with the header {STRATEGY_HEADER}: cascading",
        )
    return entries


async def _create_if_missing(services: Services, project: Project) -> bool:
    """Create a project on the default platform unless any platform has it; return True if new."""
    if project.name in await merged_projects(services, project.namespace):
        return False
    platform = services.inventory.platform()
    return await anyio.to_thread.run_sync(platform.create_project, project)


async def _apply_to_platforms(
    services: Services, project: Project, change: Callable[[Platform], object]
) -> None:
    """Make the change on every platform that has the project, then raise the first error."""
    errors = []
    for platform, projects in await _projects_by_platform(services, project.namespace):
        if project.name not in [other.name for other in projects]:
            continue
        try:
            await anyio.to_thread.run_sync(change, platform)
        except FnbuildError as error:
            errors.append(error)
    if errors:
        raise errors[0]


async def _find_project(services: Services, namespace: str, name: str) -> Project:
    project = (await merged_projects(services, namespace)).get(name)
    if project is None:
        raise NotFoundError("Project not found", hint=f"no platform has {name!r} in {namespace}")
    return project


def project_object(project: Project) -> Raw:
    """Return Nuclio's object for a project. Clients expect `spec` to exist."""
    return {**api_objects.project_object(project), "status": {}}


def _read_project(request: Request, body: Raw) -> Project:
    """Return the project in a body. Raises `UsageError` for an invalid field."""
    metadata = object_field(body, "metadata", _PROJECT, _PROJECT_HINT)
    spec = optional_object_field(body, "spec", _PROJECT, _PROJECT_HINT)
    namespace = text_field(metadata, "namespace", _PROJECT) or _request_namespace(request)
    check_namespace(namespace, "metadata.namespace")
    return Project(
        text_field(metadata, "name", _PROJECT),
        namespace,
        text_field(spec, "description", _PROJECT),
        text_field(spec, "owner", _PROJECT),
        text_map_field(metadata, "labels", _PROJECT),
        text_map_field(metadata, "annotations", _PROJECT),
    )


_COLLECTION, _ITEM = "/api/projects", "/api/projects/{name}"
_PARAMETERS = {PROJECT_NAMESPACE_HEADER: "The namespace; by default the dashboard's own."}
_DELETE_PARAMETERS = {
    **_PARAMETERS,
    STRATEGY_HEADER: "restricted (only when empty), cascading (with functions) or check.",
}
_EXPORT_PARAMETERS = {
    **_PARAMETERS,
    "?export": "`true` adds the functions and their events, for an import.",
    "?with-secrets": "With `export`, `true` keeps secret values: needs the write token.",
}
_IMPORT_PARAMETERS = {**_PARAMETERS, "?import": "`true` imports a project as `export` returns it."}

_UPDATE = Endpoint(
    _ITEM,
    "PUT",
    "write",
    update_project,
    "Change a project.",
    _PARAMETERS,
    JSON_OBJECT,
    status=204,
)
_DELETE = Endpoint(
    _ITEM, "DELETE", "write", delete_project, "Delete a project.", _DELETE_PARAMETERS, status=204
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _COLLECTION,
        "GET",
        "read",
        list_projects,
        "List projects by name.",
        _EXPORT_PARAMETERS,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        _ITEM,
        "GET",
        "read",
        get_project,
        "Get a project.",
        _EXPORT_PARAMETERS,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        _COLLECTION,
        "POST",
        "write",
        create_project,
        "Create a project.",
        _IMPORT_PARAMETERS,
        JSON_OBJECT,
        JSON_OBJECT,
        status=201,
    ),
    _UPDATE,
    replace(_UPDATE, path=_COLLECTION),
    replace(_DELETE, path=_COLLECTION, request_content=JSON_OBJECT),
    _DELETE,
)
