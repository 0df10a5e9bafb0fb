"""Function events: stored requests that clients can send to a function again.

They are those of pkg/dashboard/resource/functionevent.go. An event belongs to the function that its
label names, and is deleted with it.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import replace

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import JSON_OBJECT, Endpoint
from fnbuild.dashboard.http import json_response, object_field, read_json, text_field
from fnbuild.dashboard.requests import NAME_HEADER, check_namespace, namespace_in_header
from fnbuild.dashboard.services import services_of
from fnbuild.errors import ConflictError, NotFoundError, UsageError
from fnbuild.function.types import Raw
from fnbuild.names import FUNCTION_LABEL
from fnbuild.platforms import audit
from fnbuild.store import Store
from fnbuild.store.dashboard import FunctionEventTable

EVENT_NAMESPACE_HEADER = "x-nuclio-function-event-namespace"
_EVENT = "a function event"
_HINT = 'as in {"metadata": {}}'

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_TEXT_FIELDS = ("displayName", "triggerName", "triggerKind", "body")


async def list_events(request: Request) -> Response:
    """List the events of a namespace, or of one function, as an object by name."""
    function = request.headers.get(NAME_HEADER)
    events = await anyio.to_thread.run_sync(_events(request).all, _request_namespace(request))
    if function:
        events = {
            name: event for name, event in events.items() if event_function(event) == function
        }
    return json_response(events)


async def get_event(request: Request) -> Response:
    name = request.path_params["name"]
    event = await anyio.to_thread.run_sync(_events(request).get, _request_namespace(request), name)
    if event is None:
        raise _not_found(name)
    return json_response(event)


async def create_event(request: Request) -> Response:
    """Store an event. One without a name is given one."""
    event = validated_event(await read_json(request), _request_namespace(request))
    metadata = event["metadata"]
    add = _events(request).add
    if not await anyio.to_thread.run_sync(add, metadata["namespace"], metadata["name"], event):
        raise ConflictError(
            f"Function event already exists: {metadata['name']}",
            hint="PUT changes the existing one",
        )
    await _audit("create", metadata["namespace"], metadata["name"])
    return json_response(event, 201)


async def update_event(request: Request) -> Response:
    event = validated_event(
        await read_json(request), _request_namespace(request), _name_in_path(request)
    )
    metadata = event["metadata"]
    store = _events(request).replace
    if not await anyio.to_thread.run_sync(store, metadata["namespace"], metadata["name"], event):
        raise _not_found(metadata["name"])
    await _audit("update", metadata["namespace"], metadata["name"])
    return Response(status_code=204)


async def delete_event(request: Request) -> Response:
    """Delete an event. The response is 204 even if there is none, as for functions."""
    namespace, name = _request_namespace(request), _name_in_path(request)
    if not name:
        metadata = object_field(await read_json(request), "metadata", _EVENT, _HINT)
        namespace = text_field(metadata, "namespace", _EVENT) or namespace
        name = text_field(metadata, "name", _EVENT)
        if not name:
            raise UsageError("Function event name must be provided", hint="as metadata.name")
    if await anyio.to_thread.run_sync(_events(request).delete, namespace, name):
        await _audit("delete", namespace, name)
    return Response(status_code=204)


async def _audit(verb: str, namespace: str, name: str) -> None:
    target = f"{namespace}/{name}"
    await anyio.to_thread.run_sync(audit.record_change, f"{verb} function event", target)


def validated_event(body: Raw, namespace: str, name: str = "") -> Raw:
    """Return the event in a body with its name and namespace. Raises `UsageError`."""
    metadata, spec = (object_field(body, key, _EVENT, _HINT) for key in ("metadata", "spec"))
    body_name = text_field(metadata, "name", _EVENT)
    if name and body_name not in ("", name):
        raise UsageError(
            f"the body has the function event {body_name}, the path {name}",
            hint="an event cannot be renamed",
        )
    name = name or body_name or str(uuid.uuid4())
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:60]!r} cannot be the name of a function event",
            hint="letters, digits, '.', '_' and '-'; an event without a name is given one",
        )
    event = {"metadata": {**metadata, "name": name}, "spec": spec}
    event["metadata"]["namespace"] = text_field(metadata, "namespace", _EVENT) or namespace
    check_namespace(event["metadata"]["namespace"], "metadata.namespace")
    if not event_function(event):
        raise UsageError(
            "Function event has no function", hint=f"metadata.labels has {FUNCTION_LABEL}: its name"
        )
    for key in _TEXT_FIELDS:
        text_field(spec, key, _EVENT)
    object_field({"attributes": {}, **spec}, "attributes", _EVENT, _HINT)
    return event


def delete_function_events(store: Store, namespace: str, function: str) -> None:
    """Delete the events of a deleted function."""
    table = FunctionEventTable(store)
    for name, event in table.all(namespace).items():
        if event_function(event) == function:
            table.delete(namespace, name)


def event_function(event: Raw) -> str:
    """Return the name of the function that an event belongs to, "" without one."""
    labels = event["metadata"].get("labels") or {}
    name = labels.get(FUNCTION_LABEL) if isinstance(labels, dict) else ""
    return name if isinstance(name, str) else ""


def _not_found(name: str) -> NotFoundError:
    return NotFoundError("Function event not found", hint=f"there is none called {name!r}")


def _request_namespace(request: Request) -> str:
    return namespace_in_header(request, EVENT_NAMESPACE_HEADER)


def _name_in_path(request: Request) -> str:
    return str(request.path_params.get("name", ""))


def _events(request: Request) -> FunctionEventTable:
    return FunctionEventTable(services_of(request).store)


_COLLECTION, _ITEM = "/api/function_events", "/api/function_events/{name}"
_PARAMETERS = {EVENT_NAMESPACE_HEADER: "The namespace; by default the dashboard's own."}
_LIST_PARAMETERS = {**_PARAMETERS, NAME_HEADER: "Only events of this function."}
_UPDATE = Endpoint(
    _ITEM,
    "PUT",
    "write",
    update_event,
    "Change a function event.",
    _PARAMETERS,
    JSON_OBJECT,
    status=204,
)
_DELETE = Endpoint(
    _ITEM, "DELETE", "write", delete_event, "Delete a function event.", _PARAMETERS, status=204
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _COLLECTION,
        "GET",
        "read",
        list_events,
        "List function events by name.",
        _LIST_PARAMETERS,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        _ITEM,
        "GET",
        "read",
        get_event,
        "Get a function event.",
        _PARAMETERS,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        _COLLECTION,
        "POST",
        "write",
        create_event,
        "Create a function event.",
        _PARAMETERS,
        JSON_OBJECT,
        JSON_OBJECT,
        status=201,
    ),
    _UPDATE,
    replace(_UPDATE, path=_COLLECTION),
    replace(_DELETE, path=_COLLECTION, request_content=JSON_OBJECT),
    _DELETE,
)
