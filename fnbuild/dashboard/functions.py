"""Functions as Nuclio's clients list and get them (pkg/dashboard/resource/function.go)."""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard import exporting, objects
from fnbuild.dashboard.answers import json_response
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.guard import is_writer
from fnbuild.dashboard.inventory import in_project
from fnbuild.dashboard.listed import Listed
from fnbuild.dashboard.namespaces import (
    NAME,
    NAMESPACE,
    PROJECT,
    is_true,
    namespace_of,
    of_cvat,
    with_secrets,
)
from fnbuild.dashboard.objects import ExportOptions
from fnbuild.dashboard.services import services_of
from fnbuild.spec.types import Raw

_KEPT = 16
"""Ways of asking whose answers are kept: filters are the clients' own words, without end."""

_CLEAN = "x-nuclio-skip-spec-cleanup"  # whatever it says, Nuclio cleans the spec when it is there
_HEADERS = {
    NAMESPACE: "The namespace; the dashboard's own without.",
    PROJECT: "Only functions of this project.",
    _CLEAN: "With `export`, leave the registry out, whatever the value.",
    "?export": "`true` leaves the status out, as `nuctl export` does.",
    "?with-secrets": "With `export`, `true` keeps secret values: needs the write token.",
}


@dataclass(frozen=True, slots=True)
class _Wanted:
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
    def by(cls, request: Request) -> _Wanted:
        headers = request.headers
        export = is_true(request, "export")
        return cls(
            of_cvat(request),
            headers.get(PROJECT, ""),
            headers.get(NAME, ""),
            export,
            _CLEAN in headers,
            is_writer(request),
            export and with_secrets(request),
        )

    def takes(self, one: Listed) -> bool:
        if self.name not in ("", one.name) or not in_project(one, self.project):
            return False
        return one.for_cvat or not self.for_cvat

    @property
    def options(self) -> ExportOptions:
        return ExportOptions(self.values, self.secrets, self.clean)


async def functions(request: Request) -> Response:
    """The functions as an object by name; the bytes are made once for each state of the list."""
    inventory = services_of(request).inventory
    view = await inventory.view(namespace_of(request))
    if view.refusal is not None and not view.listed:
        # An empty list would say that there are none.
        raise view.refusal.with_traceback(None)
    wanted = _Wanted.by(request)
    if wanted.export:
        chosen = [listed for listed in view.listed if wanted.takes(listed)]
        exported = await exporting.export(inventory, chosen, wanted.options)
        return json_response(exported.functions, headers=exported.headers)
    if (body := view.encoded.get(wanted)) is None:
        shown = {
            listed.name: objects.function_object(listed, values=wanted.values)
            for listed in view.listed
            if wanted.takes(listed)
        }
        body = msgspec.json.encode(shown)
        if len(view.encoded) < _KEPT:
            view.encoded[wanted] = body
    return Response(body, media_type="application/json")


async def function(request: Request) -> Response:
    """One function, as it is at this moment."""
    services = services_of(request)
    namespace, name = namespace_of(request), request.path_params["name"]
    found = await services.inventory.function(namespace, name)
    wanted = _Wanted.by(request)
    if wanted.export:
        exported = await exporting.export(services.inventory, [found], wanted.options)
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
        functions,
        "List functions, as an object by name.",
        parameters={**_HEADERS, NAME: "Only the function of this name."},
        gives={"application/json": {"type": "object"}},
    ),
    Endpoint(
        "/api/functions/{name}",
        ("GET",),
        "read",
        function,
        "Get a function: metadata, spec and status.",
        parameters=_HEADERS,
        gives={"application/json": {"type": "object"}},
    ),
)
