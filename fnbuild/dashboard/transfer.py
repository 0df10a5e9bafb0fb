"""Projects from one Nuclio to another: all that an export of a project has, and what an import
makes of it (pkg/dashboard/resource/project.go).

Imported functions are recorded in state `imported`, without code, and start at their first deploy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio.to_thread
import msgspec

from fnbuild.builder.sources.download import is_url
from fnbuild.dashboard import events, exporting
from fnbuild.dashboard.fields import mapping_of
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.services import Services
from fnbuild.deploy import pipeline
from fnbuild.deploy.projects import PROJECT_LABEL
from fnbuild.errors import ConflictError, FnbuildError, NotFoundError, UsageError
from fnbuild.platforms import Project
from fnbuild.spec.function_rules import NAME
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Raw, to_dict
from fnbuild.store.dashboard import FunctionEventTable

_WHAT, _HINT = "an import", "send what `?export=true` gave"


async def exported(services: Services, shown: Raw, project: Project, options: ExportOptions) -> Raw:
    """All of a project; `shown` is the project itself."""
    members = await services.inventory.functions(project.namespace, project.name)
    exports = await exporting.export(services.inventory, members, options)
    kept = await anyio.to_thread.run_sync(
        FunctionEventTable(services.store).every, project.namespace
    )
    return {
        "project": {key: shown[key] for key in ("metadata", "spec")},
        "functions": exports.functions,
        "functionEvents": {
            name: one for name, one in kept.items() if events.function_of(one) in exports.functions
        },
        "apiGateways": {},
    }


def project_of(body: Raw) -> Raw:
    """The project in an export, by Nuclio's dashboard or by its command line, which says `meta`."""
    project = mapping_of(body, "project", _WHAT, _HINT)
    return {"metadata": project.get("metadata") or project.get("meta"), "spec": project.get("spec")}


async def imported(services: Services, project: Project, body: Raw) -> Raw:
    """Record what an export has in a project that is there; what came of each part."""
    imports = Outcome("function", "failedFunctions")
    for name, raw in _part(body, "functions").items():
        await imports.of(name, partial(_function, services, project, raw))
    kept = Outcome("functionEvent", "failedFunctionEvents")
    for name, raw in _part(body, "functionEvents").items():
        await kept.of(name, partial(_event, services, project, raw))
    gateways = Outcome("apiGateway", "failedAPIGateways")
    for name in _part(body, "apiGateways"):
        await gateways.of(name, partial(_gateway, name))
    services.inventory.changed()
    return {
        "functionImportResult": imports.object,
        "functionEventImportResult": kept.object,
        "apiGatewayImportResult": gateways.object,
    }


class Outcome:
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


async def _function(services: Services, project: Project, raw: Any) -> None:
    """Record one function on the default platform, without paths: no file of this machine is its
    code.
    """
    if not isinstance(raw, dict):
        raise UsageError("a function is an object with `metadata` and `spec`")
    function = from_raw(raw, "the import")
    name = function.metadata.name
    if not NAME.match(name):
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


async def _event(services: Services, project: Project, raw: Any) -> None:
    if not isinstance(raw, dict):
        raise UsageError("a function event is an object with `metadata` and `spec`")
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):
        # Its name is another one here: the project may be imported twice.
        raw = {**raw, "metadata": {**metadata, "name": "", "namespace": project.namespace}}
    event = events.checked(raw, project.namespace)
    name = event["metadata"]["name"]
    add = FunctionEventTable(services.store).add
    await anyio.to_thread.run_sync(add, project.namespace, name, event)


async def _gateway(name: str) -> None:
    raise UsageError(f"API gateway {name} cannot be imported: there are none without Nuclio")


def _part(body: Raw, key: str) -> Raw:
    given = {key: {}, **{name: one for name, one in body.items() if one is not None}}
    return mapping_of(given, key, _WHAT, _HINT)
