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
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.http import json_response
from fnbuild.dashboard.inventory import FunctionEntry, Inventory, is_in_project
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.requests import (
    NAME_HEADER,
    NAMESPACE_HEADER,
    PROJECT_HEADER,
    function_namespace,
    has_query_flag,
    is_from_cvat,
    wants_secrets,
)
from fnbuild.dashboard.services import services_of
from fnbuild.deploy import exports
from fnbuild.errors import FnbuildError
from fnbuild.function.types import Raw

_MAX_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class FunctionExport:
    """The exported functions by name. `missing` has a message for code that is not included."""

    functions: dict[str, Raw]
    missing: Sequence[str] = ()

    @property
    def headers(self) -> Mapping[str, str]:
        """The warning as a header (RFC 9111, 5.5), as Kubernetes warns its clients."""
        if not self.missing:
            return {}
        text = "; ".join(self.missing[:_MAX_WARNINGS]).replace("\\", "").replace('"', "'")
        text = text.encode("ascii", "replace").decode()
        return {"Warning": f'299 fnbuild "{text}"'}


async def export_functions(
    inventory: Inventory, listed: Sequence[FunctionEntry], options: ExportOptions
) -> FunctionExport:
    """Export functions with their code, which a thread reads from the platforms."""
    return await to_thread.run_sync(_export_with_code, inventory, listed, options)


def _export_with_code(
    inventory: Inventory, listed: Sequence[FunctionEntry], options: ExportOptions
) -> FunctionExport:
    functions: dict[str, Raw] = {}
    missing: list[str] = []
    for each in listed:
        platform, deployment = inventory.platform(each.platform), each.deployment
        if options.secrets:
            deployment = replace(deployment, function=platform.with_secrets(deployment))
        function = deployment.function
        try:
            code = exports.export_code(platform, deployment)
        except FnbuildError as error:
            missing.append(f"the code of {each.name} is not in the export: {error.message}")
        else:
            function = code.function
            if code.missing:
                missing.append(code.missing)
        whole = replace(each, deployment=replace(each.deployment, function=function))
        functions[each.name] = objects.exported_object(whole, options)
    return FunctionExport(functions, missing)


_MAX_ENCODED = 16
"""Ways of asking whose answers are kept: filters are the clients' own words, without end."""

_CLEANUP_HEADER = (
    "x-nuclio-skip-spec-cleanup"  # whatever it says, Nuclio cleans the spec when it is there
)
_PARAMETERS = {
    NAMESPACE_HEADER: "The namespace; the dashboard's own without.",
    PROJECT_HEADER: "Only functions of this project.",
    _CLEANUP_HEADER: "With `export`, leave the registry out, whatever the value.",
    "?export": "`true` leaves the status out, as `nuctl export` does.",
    "?with-secrets": "With `export`, `true` keeps secret values: needs the write token.",
}


@dataclass(frozen=True, slots=True)
class _Selection:
    """The functions that a list request selects, and the parts of each that it shows.

    `values` is True for clients that may see the values of variables. `secrets` is True if the
    request asks for secret values as well.
    """

    for_cvat: bool
    project: str
    name: str
    export: bool
    clean: bool
    values: bool
    secrets: bool

    @classmethod
    def by(cls, request: Request) -> _Selection:
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

    def takes(self, one: FunctionEntry) -> bool:
        if self.name not in ("", one.name) or not is_in_project(one, self.project):
            return False
        return one.for_cvat or not self.for_cvat

    @property
    def options(self) -> ExportOptions:
        return ExportOptions(self.values, self.secrets, self.clean)


async def list_functions(request: Request) -> Response:
    """The functions as an object by name; the bytes are made once for each state of the list."""
    inventory = services_of(request).inventory
    view = await inventory.view(function_namespace(request))
    if view.refusal is not None and not view.listed:
        # An empty list would say that there are none.
        raise view.refusal.with_traceback(None)
    wanted = _Selection.by(request)
    if wanted.export:
        chosen = [listed for listed in view.listed if wanted.takes(listed)]
        exported = await export_functions(inventory, chosen, wanted.options)
        return json_response(exported.functions, headers=exported.headers)
    if (body := view.encoded.get(wanted)) is None:
        shown = {
            listed.name: objects.function_object(listed, values=wanted.values)
            for listed in view.listed
            if wanted.takes(listed)
        }
        body = msgspec.json.encode(shown)
        if len(view.encoded) < _MAX_ENCODED:
            view.encoded[wanted] = body
    return Response(body, media_type="application/json")


async def get_function(request: Request) -> Response:
    """One function, as it is at this moment."""
    services = services_of(request)
    namespace, name = function_namespace(request), request.path_params["name"]
    found = await services.inventory.function(namespace, name)
    wanted = _Selection.by(request)
    if wanted.export:
        exported = await export_functions(services.inventory, [found], wanted.options)
        return json_response(exported.functions[found.name], headers=exported.headers)
    logs: list[Raw] = []
    if found.operation is not None:
        lines = await anyio.to_thread.run_sync(services.operations.lines, found.operation)
        logs = [{**line, "name": found.operation.action} for line in lines]
    return json_response(objects.function_object(found, values=wanted.values, logs=logs))


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions",
        ("GET",),
        "read",
        list_functions,
        "List functions, as an object by name.",
        parameters={**_PARAMETERS, NAME_HEADER: "Only the function of this name."},
        gives={"application/json": {"type": "object"}},
    ),
    Endpoint(
        "/api/functions/{name}",
        ("GET",),
        "read",
        get_function,
        "Get a function: metadata, spec and status.",
        parameters=_PARAMETERS,
        gives={"application/json": {"type": "object"}},
    ),
)
