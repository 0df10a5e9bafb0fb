"""The projects of all platforms, with export and import (pkg/dashboard/resource/project.go).

A project is created on the default platform, and on others when one of its functions comes there.
A project exists if any platform has it. Its fields are merged, the default platform's first.
Imported functions are recorded in state `imported`, without code, and start at their first deploy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
from fnbuild.dashboard.requests import (
    check_namespace,
    has_query_flag,
    namespace_in_header,
    wants_secrets,
)
from fnbuild.dashboard.services import Services, services_of
from fnbuild.dashboard.threads import run_in_thread
from fnbuild.deploy import pipeline
from fnbuild.deploy.projects import DEFAULT_PROJECT, PROJECT_LABEL
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
from fnbuild.platforms import Platform, Project, api_objects
from fnbuild.store.dashboard import FunctionEventTable

_IMPORT, _IMPORT_HINT = "an import", "send what `?export=true` gave"


async def export_project(
    services: Services, shown: Raw, project: Project, options: ExportOptions
) -> Raw:
    """All of a project; `shown` is the project itself."""
    members = await services.inventory.functions(project.namespace, project.name)
    exports = await functions.export_functions(services.inventory, members, options)
    kept = await anyio.to_thread.run_sync(FunctionEventTable(services.store).all, project.namespace)
    return {
        "project": {key: shown[key] for key in ("metadata", "spec")},
        "functions": exports.functions,
        "functionEvents": {
            name: one
            for name, one in kept.items()
            if events.event_function(one) in exports.functions
        },
        "apiGateways": {},
    }


def exported_project(body: Raw) -> Raw:
    """The project in an export, by Nuclio's dashboard or by its command line, which says `meta`."""
    project = object_field(body, "project", _IMPORT, _IMPORT_HINT)
    return {"metadata": project.get("metadata") or project.get("meta"), "spec": project.get("spec")}


async def import_project(services: Services, project: Project, body: Raw) -> Raw:
    """Record what an export has in a project that is there; what came of each part."""
    imports = ImportResult("function", "failedFunctions")
    for name, raw in _section(body, "functions").items():
        await imports.of(name, partial(_import_function, services, project, raw))
    kept = ImportResult("functionEvent", "failedFunctionEvents")
    for name, raw in _section(body, "functionEvents").items():
        await kept.of(name, partial(_import_event, services, project, raw))
    gateways = ImportResult("apiGateway", "failedAPIGateways")
    for name in _section(body, "apiGateways"):
        await gateways.of(name, partial(_refuse_gateway, name))
    services.inventory.changed()
    return {
        "functionImportResult": imports.object,
        "functionEventImportResult": kept.object,
        "apiGatewayImportResult": gateways.object,
    }


class ImportResult:
    """How the parts of one kind came through, in Nuclio's words."""

    def __init__(self, kind: str, failures: str):
        self._kind = kind
        self._failures = failures
        self._created = 0
        self._failed: list[Raw] = []

    async def of(self, name: str, work: Any) -> None:
        """Do one of them; an error of the family is part of the outcome."""
        try:
            await work()
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
    """Record one function on the default platform, without paths: no file of this machine is its
    code.
    """
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
        pipeline.import_function, platform, to_dict(function), project.namespace, name
    )


async def _import_event(services: Services, project: Project, raw: Any) -> None:
    if not isinstance(raw, dict):
        raise UsageError("a function event is an object with `metadata` and `spec`")
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):
        # Its name is another one here: the project may be imported twice.
        raw = {**raw, "metadata": {**metadata, "name": "", "namespace": project.namespace}}
    event = events.validated_event(raw, project.namespace)
    name = event["metadata"]["name"]
    add = FunctionEventTable(services.store).add
    await anyio.to_thread.run_sync(add, project.namespace, name, event)


async def _refuse_gateway(name: str) -> None:
    raise UsageError(f"API gateway {name} cannot be imported: there are none without Nuclio")


def _section(body: Raw, key: str) -> Raw:
    given = {key: {}, **{name: one for name, one in body.items() if one is not None}}
    return object_field(given, key, _IMPORT, _IMPORT_HINT)


PROJECT_NAMESPACE_HEADER = "x-nuclio-project-namespace"
_PROJECT = "a project"
_PROJECT_HINT = '{"metadata": {"name": …}}'
STRATEGY_HEADER = "x-nuclio-delete-project-strategy"
STRATEGIES = ("restricted", "cascading", "check")

_ANSWER_SECONDS = 2.0


async def merged_projects(services: Services, namespace: str) -> dict[str, Project]:
    """The projects that any platform has, by name. A silent platform says nothing."""
    found: dict[str, Project] = {}
    for _, listed in await _projects_by_platform(services, namespace):
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


async def _projects_by_platform(
    services: Services, namespace: str
) -> list[tuple[Platform, list[Project]]]:
    """The projects of each platform, the default one's first."""
    platforms = [platform for platform, _ in services.inventory.shown()]
    answers = await asyncio.gather(*(_platform_projects(one, namespace) for one in platforms))
    return list(zip(platforms, answers, strict=True))


async def _platform_projects(platform: Platform, namespace: str) -> list[Project]:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await run_in_thread(platform.projects, namespace)
    except (FnbuildError, TimeoutError):
        return []


async def list_projects(request: Request) -> Response:
    """All projects as an object by name, or with `export` all that `import` takes."""
    services, namespace = (
        services_of(request),
        namespace_in_header(request, PROJECT_NAMESPACE_HEADER),
    )
    found = await merged_projects(services, namespace)
    if has_query_flag(request, "export"):
        listed = {name: await _export(request, project) for name, project in found.items()}
        return json_response(listed)
    return json_response({name: project_object(one) for name, one in found.items()})


async def get_project(request: Request) -> Response:
    services = services_of(request)
    project = await _find_project(
        services,
        namespace_in_header(request, PROJECT_NAMESPACE_HEADER),
        request.path_params["name"],
    )
    if has_query_flag(request, "export"):
        return json_response(await _export(request, project))
    return json_response(project_object(project))


async def _export(request: Request, project: Project) -> Raw:
    options = ExportOptions(is_writer(request), wants_secrets(request))
    raw = project_object(project)
    return await export_project(services_of(request), raw, project, options)


async def create_project(request: Request) -> Response:
    """Make a project; with `import` with the functions that an export of it has."""
    services, body = services_of(request), await read_json(request)
    if has_query_flag(request, "import"):
        project = _read_project(request, exported_project(body))
        await _create_if_missing(services, project)
        return json_response(await import_project(services, project, body), 201)
    project = _read_project(request, body)
    if project.name in await merged_projects(
        services, project.namespace
    ) or not await _create_if_missing(services, project):
        raise ConflictError(
            f"Project already exists: {project.name}", hint="PUT changes one that is there"
        )
    return json_response(project_object(project), 201)


async def update_project(request: Request) -> Response:
    """Put the project in place of what is there, on each platform."""
    services = services_of(request)
    project = _read_project(request, await read_json(request))
    named = request.path_params.get("name", project.name)
    if named != project.name:
        raise UsageError(
            f"the body is about project {project.name}, the address about {named}",
            hint="a project cannot be renamed",
        )
    await _find_project(services, project.namespace, project.name)
    await _apply_to_platforms(services, project, lambda platform: platform.update_project(project))
    headers = {} if "name" in request.path_params else {"Deprecation": "true"}
    return Response(status_code=204, headers=headers)


async def delete_project(request: Request) -> Response:
    """Remove a project from every platform, by the strategy of Nuclio's header."""
    services = services_of(request)
    strategy = request.headers.get(STRATEGY_HEADER) or "restricted"
    if strategy not in STRATEGIES:
        raise UsageError(
            f"there is no strategy {strategy[:50]!r} to delete a project",
            hint=f"one of: {', '.join(STRATEGIES)}",
        )
    if name := request.path_params.get("name"):
        project = Project(name, namespace_in_header(request, PROJECT_NAMESPACE_HEADER))
    else:
        project = _read_project(request, await read_json(request))
    cascade = strategy == "cascading"
    members = await _functions_to_delete(services, project, cascade=cascade)
    if strategy == "check":
        return Response(status_code=204)
    # Each by a change of its own, so that none is deleted while it is deployed.
    begun = [await begin_delete(request, member) for member in members]
    for operation in begun:
        await services.operations.outcome(operation)
    await _apply_to_platforms(services, project, partial(_delete_from, project, cascade))
    services.inventory.changed()
    return Response(status_code=204)


def _delete_from(project: Project, cascade: bool, platform: Platform) -> bool:
    return platform.delete_project(project.namespace, project.name, cascade=cascade)


async def _functions_to_delete(
    services: Services, project: Project, *, cascade: bool
) -> list[FunctionEntry]:
    """The functions that go with the project; raises when it has to stay."""
    if project.name == DEFAULT_PROJECT:
        raise PreconditionError("Cannot delete the default project")
    await _find_project(services, project.namespace, project.name)
    services.inventory.changed()
    members = await services.inventory.functions(project.namespace, project.name)
    if members and not cascade:
        raise PreconditionError(
            f"Project contains functions: {', '.join(one.name for one in members)}",
            hint=f"delete them first, or with the header {STRATEGY_HEADER}: cascading",
        )
    return members


async def _create_if_missing(services: Services, project: Project) -> bool:
    """Record it on the default platform, unless any has it; whether it is new."""
    if project.name in await merged_projects(services, project.namespace):
        return False
    platform = services.inventory.platform()
    return await anyio.to_thread.run_sync(platform.create_project, project)


async def _apply_to_platforms(
    services: Services, project: Project, change: Callable[[Platform], object]
) -> None:
    """Make the change on every platform that has the project. What fails comes at the end."""
    failed = []
    for platform, listed in await _projects_by_platform(services, project.namespace):
        if project.name not in [one.name for one in listed]:
            continue
        try:
            await anyio.to_thread.run_sync(change, platform)
        except FnbuildError as error:
            failed.append(error)
    if failed:
        raise failed[0]


async def _find_project(services: Services, namespace: str, name: str) -> Project:
    found = (await merged_projects(services, namespace)).get(name)
    if found is None:
        raise NotFoundError("Project not found", hint=f"no platform has {name!r} in {namespace}")
    return found


def project_object(project: Project) -> Raw:
    """Nuclio's shape. Clients read `spec` without asking whether it is there."""
    return {**api_objects.project_object(project), "status": {}}


def _read_project(request: Request, body: Raw) -> Project:
    """The project of a body; `UsageError` for a name that none can have."""
    given = {"spec": {}, **{key: one for key, one in body.items() if one is not None}}
    metadata, spec = (
        object_field(given, key, _PROJECT, _PROJECT_HINT) for key in ("metadata", "spec")
    )
    namespace = text_field(metadata, "namespace", _PROJECT) or namespace_in_header(
        request, PROJECT_NAMESPACE_HEADER
    )
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
_PARAMETERS = {PROJECT_NAMESPACE_HEADER: "The namespace; the dashboard's own without."}
_DELETE_PARAMETERS = {
    **_PARAMETERS,
    STRATEGY_HEADER: "restricted (only when empty), cascading (with functions) or check.",
}
_EXPORT_PARAMETERS = {
    **_PARAMETERS,
    "?export": "`true` adds the functions and their events, for an import.",
    "?with-secrets": "With `export`, `true` keeps secret values: needs the write token.",
}
_IMPORT_PARAMETERS = {**_PARAMETERS, "?import": "`true` takes what an export gave."}
_JSON = {"application/json": {"type": "object"}}


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _COLLECTION,
        ("GET",),
        "read",
        list_projects,
        "List projects by name.",
        _EXPORT_PARAMETERS,
        gives=_JSON,
    ),
    Endpoint(
        _ITEM, ("GET",), "read", get_project, "Get a project.", _EXPORT_PARAMETERS, gives=_JSON
    ),
    Endpoint(
        _COLLECTION,
        ("POST",),
        "write",
        create_project,
        "Make a project.",
        _IMPORT_PARAMETERS,
        _JSON,
        _JSON,
        status=201,
    ),
    Endpoint(
        _ITEM,
        ("PUT",),
        "write",
        update_project,
        "Change a project.",
        _PARAMETERS,
        _JSON,
        status=204,
    ),
    Endpoint(
        _COLLECTION,
        ("PUT",),
        "write",
        update_project,
        "Change a project.",
        _PARAMETERS,
        _JSON,
        status=204,
    ),
    Endpoint(
        _COLLECTION,
        ("DELETE",),
        "write",
        delete_project,
        "Delete a project.",
        _DELETE_PARAMETERS,
        _JSON,
        status=204,
    ),
    Endpoint(
        _ITEM,
        ("DELETE",),
        "write",
        delete_project,
        "Delete a project.",
        _DELETE_PARAMETERS,
        status=204,
    ),
)
