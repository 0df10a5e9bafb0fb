"""Export and import of projects with their functions and events.

Imported functions are recorded in state `imported`, without code, and start at their first deploy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio.to_thread

from fnbuild.builder.sources.download import is_url
from fnbuild.dashboard.api import events, functions
from fnbuild.dashboard.http import object_field, optional_object_field
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.services import Services
from fnbuild.deploy import exports
from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, UsageError
from fnbuild.function.function_rules import NAME_PATTERN
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Raw, to_dict
from fnbuild.names import PROJECT_LABEL
from fnbuild.platforms import Project, api_objects
from fnbuild.store.dashboard import FunctionEventTable

_IMPORT, _IMPORT_HINT = "an import", "send what `?export=true` gave"


async def export_project(services: Services, project: Project, options: ExportOptions) -> Raw:
    """Export a project with its functions and their events."""
    entries = await services.inventory.functions(project.namespace, project.name)
    exported = await functions.export_functions(services.inventory, entries, options)
    stored_events = await anyio.to_thread.run_sync(
        FunctionEventTable(services.store).all, project.namespace
    )
    return {
        "project": api_objects.project_object(project),
        "functions": exported.functions,
        "functionEvents": {
            name: event
            for name, event in stored_events.items()
            if events.event_function(event) in exported.functions
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
    if not is_url(function.spec.build.path):
        function = function.with_build(path="")
    labels = {**function.metadata.labels, PROJECT_LABEL: project.name}
    function = function.with_metadata(labels=labels)
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
    return optional_object_field(body, key, _IMPORT, _IMPORT_HINT)
