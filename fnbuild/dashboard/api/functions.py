"""List, get and export functions as Nuclio does (pkg/dashboard/resource/function.go)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio.to_thread
import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard import objects
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import JSON_OBJECT, Endpoint
from fnbuild.dashboard.function_entries import FunctionEntry, is_in_project
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.inventory import Inventory
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.requests import (
    NAME_HEADER,
    NAMESPACE_PARAMETER,
    PROJECT_HEADER,
    function_namespace,
    has_query_flag,
    is_from_cvat,
    requested_function,
    wants_secrets,
)
from fnbuild.dashboard.services import services_of
from fnbuild.deploy import exports
from fnbuild.errors import FnbuildError
from fnbuild.function.types import Raw

_MAX_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class FunctionExport:
    """Exported functions by name. `missing` has a message for each code that is not included."""

    functions: dict[str, Raw]
    missing: Sequence[str] = ()

    @property
    def headers(self) -> Mapping[str, str]:
        """Warn of missing code in a header (RFC 9111, 5.5), as Kubernetes warns its clients."""
        if not self.missing:
            return {}
        text = "; ".join(self.missing[:_MAX_WARNINGS]).replace("\\", "").replace('"', "'")
        text = text.encode("ascii", "replace").decode()
        return {"Warning": f'299 fnbuild "{text}"'}


async def export_functions(
    inventory: Inventory, entries: Sequence[FunctionEntry], options: ExportOptions
) -> FunctionExport:
    """Export functions with their code, which is read in a thread."""
    return await to_thread.run_sync(_export_with_code, inventory, entries, options)


def _export_with_code(
    inventory: Inventory, entries: Sequence[FunctionEntry], options: ExportOptions
) -> FunctionExport:
    functions: dict[str, Raw] = {}
    missing: list[str] = []
    for entry in entries:
        platform, deployment = inventory.platform(entry.platform), entry.deployment
        if options.show_secrets:
            deployment = replace(deployment, function=platform.function_with_secrets(deployment))
        function = deployment.function
        try:
            exported = exports.prepare_export(platform, deployment)
        except FnbuildError as error:
            missing.append(f"the code of {entry.name} is not in the export: {error.message}")
        else:
            function = exported.function
            if exported.missing:
                missing.append(exported.missing)
        complete = replace(entry, deployment=replace(entry.deployment, function=function))
        functions[entry.name] = objects.exported_object(complete, options)
    return FunctionExport(functions, missing)


_MAX_ENCODED = 16
"""Selections whose responses are cached, limited because clients choose the filters."""

_CLEANUP_HEADER = "x-nuclio-skip-spec-cleanup"  # Nuclio cleans the spec whatever its value
_PARAMETERS = {
    **NAMESPACE_PARAMETER,
    PROJECT_HEADER: "Only functions of this project.",
    _CLEANUP_HEADER: "With `export`, leave the registry out, whatever the value.",
    "?export": "`true` leaves the status out, as `nuctl export` does.",
    "?with-secrets": "With `export`, `true` keeps secret values: needs the write token.",
}


@dataclass(frozen=True, slots=True)
class _Selection:
    """The functions that a list request selects, and the fields that it returns.

    `show_values` is True for clients that may see the values of variables, `show_secrets` if the
    request includes secret values.
    """

    for_cvat: bool
    project: str
    name: str
    export: bool
    cleanup_spec: bool
    show_values: bool
    show_secrets: bool

    @classmethod
    def from_request(cls, request: Request) -> _Selection:
        headers = request.headers
        export = has_query_flag(request, "export")
        return cls(
            is_from_cvat(request),
            headers.get(PROJECT_HEADER, ""),
            headers.get(NAME_HEADER, ""),
            export,
            _CLEANUP_HEADER in headers,
            is_writer(request),
            export and wants_secrets(request),
        )

    def matches(self, entry: FunctionEntry) -> bool:
        if self.name not in ("", entry.name) or not is_in_project(entry, self.project):
            return False
        return entry.for_cvat or not self.for_cvat

    @property
    def options(self) -> ExportOptions:
        return ExportOptions(self.show_values, self.show_secrets, self.cleanup_spec)


async def list_functions(request: Request) -> Response:
    """List functions as an object by name. Each snapshot of the list is encoded once."""
    inventory = services_of(request).inventory
    snapshot = await inventory.snapshot(function_namespace(request))
    if snapshot.refusal is not None and not snapshot.entries:
        # An empty list would mean that there are no functions.
        raise snapshot.refusal.with_traceback(None)
    selection = _Selection.from_request(request)
    if selection.export:
        entries = [entry for entry in snapshot.entries if selection.matches(entry)]
        exported = await export_functions(inventory, entries, selection.options)
        return json_response(exported.functions, headers=exported.headers)
    if (body := snapshot.encoded.get(selection)) is None:
        objects_by_name = {
            entry.name: objects.function_object(entry, show_values=selection.show_values)
            for entry in snapshot.entries
            if selection.matches(entry)
        }
        body = msgspec.json.encode(objects_by_name)
        if len(snapshot.encoded) < _MAX_ENCODED:
            snapshot.encoded[selection] = body
    return Response(body, media_type="application/json")


async def get_function(request: Request) -> Response:
    """Return a function in its current state."""
    services = services_of(request)
    entry, _ = await requested_function(request)
    selection = _Selection.from_request(request)
    if selection.export:
        exported = await export_functions(services.inventory, [entry], selection.options)
        return json_response(exported.functions[entry.name], headers=exported.headers)
    logs: list[Raw] = []
    if entry.operation is not None:
        lines = await anyio.to_thread.run_sync(services.operations.output_lines, entry.operation)
        logs = [{**line, "name": entry.operation.action} for line in lines]
    return json_response(
        objects.function_object(entry, show_values=selection.show_values, logs=logs)
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions",
        "GET",
        "read",
        list_functions,
        "List functions, as an object by name.",
        parameters={**_PARAMETERS, NAME_HEADER: "Only the function of this name."},
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        "/api/functions/{name}",
        "GET",
        "read",
        get_function,
        "Get a function: metadata, spec and status.",
        parameters=_PARAMETERS,
        response_content=JSON_OBJECT,
    ),
)
