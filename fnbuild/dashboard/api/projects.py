"""The projects of all platforms, with export and import (pkg/dashboard/resource/project.go).

A project is created on the default platform, and on others when one of its functions comes there.
A project exists if any platform has it. Its fields are merged, the default platform's first.
Imported functions are recorded in state `imported`, without code, and start at their first deploy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.builder.sources.download import is_url
from fnbuild.dashboard.api import events, functions
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.http import (
    json_response,
    object_field,
    read_json,
    text_field,
    text_map_field,
)
from fnbuild.dashboard.inventory import FunctionEntry
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
from fnbuild.deploy import exports
from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    NotFoundError,
    PreconditionError,
    UsageError,
)
from fnbuild.function.function_rules import NAME_PATTERN
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Raw, to_dict
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import Platform, Project, api_objects
from fnbuild.store.dashboard import FunctionEventTable

_IMPORT, _IMPORT_HINT = "an import", "send what `?export=true` gave"


async def export_project(services: Services, project: Project, options: ExportOptions) -> Raw:
    """Export a project with its functions and their events."""
    entries = await services.inventory.functions(project.namespace, project.name)
    exports = await functions.export_functions(services.inventory, entries, options)
    stored_events = await anyio.to_thread.run_sync(
        FunctionEventTable(services.store).all, project.namespace
    )
    exported = project_object(project)
    return {
        "project": {key: exported[key] for key in ("metadata", "spec")},
        "functions": exports.functions,
        "functionEvents": {
            name: event
            for name, event in stored_events.items()
            if events.event_function(event) in exports.functions
        },
        "apiGateways": {},
    }


def exported_project(body: Raw) -> Raw:
    """Return the project in an export. Nuclio's command line writes `meta` for `metadata`."""
    project = object_field(body, "project", _IMPORT, _IMPORT_HINT)
    return {"metadata": project.get("metadata") or project.get("meta"), "spec": project.get("spec")}


async def import_project(services: Services, project: Project, body: Raw) -> Raw:
    """Record the content of an export in an existing project; return the result of each part."""
    function_result = ImportResult("function", "failedFunctions")
    for name, raw in _section(body, "functions").items():
        await function_result.add(name, partial(_import_function, services, project, raw))
    event_result = ImportResult("functionEvent", "failedFunctionEvents")
    for name, raw in _section(body, "functionEvents").items():
        await event_result.add(name, partial(_import_event, services, project, raw))
    gateway_result = ImportResult("apiGateway", "failedAPIGateways")
    for name in _section(body, "apiGateways"):
        await gateway_result.add(name, partial(_refuse_gateway, name))
    services.inventory.invalidate()
    return {
        "functionImportResult": function_result.object,
        "functionEventImportResult": event_result.object,
        "apiGatewayImportResult": gateway_result.object,
    }


class ImportResult:
    """The result of importing the items of one kind, with Nuclio's fields."""

    def __init__(self, kind: str, failures: str):
        self._kind = kind
        self._failures = failures
        self._created = 0
        self._failed: list[Raw] = []

    async def add(self, name: str, import_item: Callable[[], Awaitable[None]]) -> None:
        """Import one item, and record its error if it fails."""
        try:
            await import_item()
            self._created += 1
        except FnbuildError as error:
            self._failed.append({self._kind: name, "error": error.message})

    @property
    def object(self) -> Raw:
        return {
            "createdAmount": self._created,
            "failedAmount": len(self._failed),
            self._failures: self._failed,
        }


async def _import_function(services: Services, project: Project, raw: Any) -> None:
    """Record a function on the default platform, without paths: no local file is its code."""
    if not isinstance(raw, dict):
        raise UsageError("a function is an object with `metadata` and `spec`")
    function = function_from_dict(raw, "the import")
    name = function.metadata.name
    if not NAME_PATTERN.match(name):
        raise UsageError(f"{name!r} cannot be a function's name")
    try:
        await services.inventory.function(project.namespace, name)
    except NotFoundError:
        pass
    else:
        raise ConflictError(f"Cannot create two functions with the same name: {name}")
    build = function.spec.build
    if not is_url(build.path):
        build = msgspec.structs.replace(build, path="")
    labels = {**function.metadata.labels, PROJECT_LABEL: project.name}
    function = msgspec.structs.replace(
        function,
        metadata=msgspec.structs.replace(function.metadata, labels=labels),
        spec=msgspec.structs.replace(function.spec, build=build),
    )
    platform = services.inventory.platform()
    await anyio.to_thread.run_sync(
        exports.import_function, platform, to_dict(function), project.namespace, name
    )


async def _import_event(services: Services, project: Project, raw: Any) -> None:
    if not isinstance(raw, dict):
        raise UsageError("a function event is an object with `metadata` and `spec`")
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):
        # It gets a new name, because a project may be imported twice.
        raw = {**raw, "metadata": {**metadata, "name": "", "namespace": project.namespace}}
    event = events.validated_event(raw, project.namespace)
    name = event["metadata"]["name"]
    add = FunctionEventTable(services.store).add
    await anyio.to_thread.run_sync(add, project.namespace, name, event)


async def _refuse_gateway(name: str) -> None:
    raise UsageError(f"API gateway {name} cannot be imported: there are none without Nuclio")


def _section(body: Raw, key: str) -> Raw:
    return object_field({key: {}, **_without_nulls(body)}, key, _IMPORT, _IMPORT_HINT)


def _without_nulls(raw: Raw) -> Raw:
    return {key: value for key, value in raw.items() if value is not None}


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
    return await export_project(services_of(request), project, options)


async def create_project(request: Request) -> Response:
    """Create a project; with `import` also the functions in an export of it."""
    services, body = services_of(request), await read_json(request)
    if has_query_flag(request, "import"):
        project = _read_project(request, exported_project(body))
        await _create_if_missing(services, project)
        return json_response(await import_project(services, project, body), 201)
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
        await services.operations.wait(operation)
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
    raw = {"spec": {}, **_without_nulls(body)}
    metadata, spec = (
        object_field(raw, key, _PROJECT, _PROJECT_HINT) for key in ("metadata", "spec")
    )
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
_JSON = {"application/json": {"type": "object"}}


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _COLLECTION,
        "GET",
        "read",
        list_projects,
        "List projects by name.",
        _EXPORT_PARAMETERS,
        response_content=_JSON,
    ),
    Endpoint(
        _ITEM,
        "GET",
        "read",
        get_project,
        "Get a project.",
        _EXPORT_PARAMETERS,
        response_content=_JSON,
    ),
    Endpoint(
        _COLLECTION,
        "POST",
        "write",
        create_project,
        "Create a project.",
        _IMPORT_PARAMETERS,
        _JSON,
        _JSON,
        status=201,
    ),
    Endpoint(
        _ITEM, "PUT", "write", update_project, "Change a project.", _PARAMETERS, _JSON, status=204
    ),
    Endpoint(
        _COLLECTION,
        "PUT",
        "write",
        update_project,
        "Change a project.",
        _PARAMETERS,
        _JSON,
        status=204,
    ),
    Endpoint(
        _COLLECTION,
        "DELETE",
        "write",
        delete_project,
        "Delete a project.",
        _DELETE_PARAMETERS,
        _JSON,
        status=204,
    ),
    Endpoint(
        _ITEM,
        "DELETE",
        "write",
        delete_project,
        "Delete a project.",
        _DELETE_PARAMETERS,
        status=204,
    ),
)
