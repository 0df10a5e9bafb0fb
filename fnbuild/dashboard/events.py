"""Function events: requests that somebody keeps with a function, to send them again
(pkg/dashboard/resource/functionevent.go).

An event belongs to the function that its label names, and goes with it.
"""

from __future__ import annotations

import re
import uuid

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.answers import json_body, json_response
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.fields import mapping_of, text_of
from fnbuild.dashboard.namespaces import check_namespace, named_in
from fnbuild.dashboard.services import services_of
from fnbuild.errors import ConflictError, NotFoundError, UsageError
from fnbuild.platforms import audit
from fnbuild.spec.types import Raw
from fnbuild.store import Store
from fnbuild.store.dashboard import FunctionEventTable

NAMESPACE = "x-nuclio-function-event-namespace"
_WHAT = "a function event"
_HINT = 'as in {"metadata": {}}'
FUNCTION = "x-nuclio-function-name"
LABEL = "nuclio.io/function-name"

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_TEXTS = ("displayName", "triggerName", "triggerKind", "body")


async def every(request: Request) -> Response:
    """All events of a namespace, or those of one function, as an object by name."""
    wanted = request.headers.get(FUNCTION)
    found = await anyio.to_thread.run_sync(_events(request).every, named_in(request, NAMESPACE))
    if wanted:
        found = {name: one for name, one in found.items() if function_of(one) == wanted}
    return json_response(found)


async def one(request: Request) -> Response:
    name = request.path_params["name"]
    found = await anyio.to_thread.run_sync(_events(request).get, named_in(request, NAMESPACE), name)
    if found is None:
        raise _missing(name)
    return json_response(found)


async def create(request: Request) -> Response:
    """Keep a request with a function. One without a name gets one."""
    event = checked(await json_body(request), named_in(request, NAMESPACE))
    metadata = event["metadata"]
    add = _events(request).add
    if not await anyio.to_thread.run_sync(add, metadata["namespace"], metadata["name"], event):
        raise ConflictError(
            f"Function event already exists: {metadata['name']}",
            hint="PUT changes one that is there",
        )
    await _recorded("create", metadata["namespace"], metadata["name"])
    return json_response(event, 201)


async def update(request: Request) -> Response:
    event = checked(await json_body(request), named_in(request, NAMESPACE), _named(request))
    metadata = event["metadata"]
    replace = _events(request).replace
    if not await anyio.to_thread.run_sync(replace, metadata["namespace"], metadata["name"], event):
        raise _missing(metadata["name"])
    await _recorded("update", metadata["namespace"], metadata["name"])
    return Response(status_code=204)


async def delete(request: Request) -> Response:
    """Forget an event. One that is not there counts as deleted, as a function does."""
    namespace, name = named_in(request, NAMESPACE), _named(request)
    if not name:
        metadata = mapping_of(await json_body(request), "metadata", _WHAT, _HINT)
        namespace = text_of(metadata, "namespace", _WHAT) or namespace
        name = text_of(metadata, "name", _WHAT)
        if not name:
            raise UsageError("Function event name must be provided", hint="as metadata.name")
    if await anyio.to_thread.run_sync(_events(request).delete, namespace, name):
        await _recorded("delete", namespace, name)
    return Response(status_code=204)


async def _recorded(verb: str, namespace: str, name: str) -> None:
    target = f"{namespace}/{name}"
    await anyio.to_thread.run_sync(audit.record_change, f"{verb} function event", target)


def checked(body: Raw, namespace: str, name: str = "") -> Raw:
    """The event in a body, with all that it has to have. Raises `UsageError`."""
    metadata, spec = (mapping_of(body, key, _WHAT, _HINT) for key in ("metadata", "spec"))
    named = text_of(metadata, "name", _WHAT)
    if name and named not in ("", name):
        raise UsageError(
            f"the body is about function event {named}, the address about {name}",
            hint="an event cannot be renamed",
        )
    wanted = name or named or str(uuid.uuid4())
    if not _NAME.fullmatch(wanted):
        raise UsageError(
            f"{wanted[:60]!r} cannot be the name of a function event",
            hint="letters, digits, '.', '_' and '-'; without a name it gets one",
        )
    event = {"metadata": {**metadata, "name": wanted}, "spec": spec}
    event["metadata"]["namespace"] = text_of(metadata, "namespace", _WHAT) or namespace
    check_namespace(event["metadata"]["namespace"], "metadata.namespace")
    if not function_of(event):
        raise UsageError(
            "Function event has no function", hint=f"metadata.labels has {LABEL}: its name"
        )
    for key in _TEXTS:
        text_of(spec, key, _WHAT)
    mapping_of({"attributes": {}, **spec}, "attributes", _WHAT, _HINT)
    return event


def forget(store: Store, namespace: str, function: str) -> None:
    """Delete the events of a function that is gone."""
    kept = FunctionEventTable(store)
    for name, one in kept.every(namespace).items():
        if function_of(one) == function:
            kept.delete(namespace, name)


def function_of(event: Raw) -> str:
    """The function that an event belongs to, "" for none."""
    labels = event["metadata"].get("labels") or {}
    name = labels.get(LABEL) if isinstance(labels, dict) else ""
    return name if isinstance(name, str) else ""


def _missing(name: str) -> NotFoundError:
    return NotFoundError("Function event not found", hint=f"there is none called {name!r}")


def _named(request: Request) -> str:
    return str(request.path_params.get("name", ""))


def _events(request: Request) -> FunctionEventTable:
    return FunctionEventTable(services_of(request).store)


_ALL, _ONE = "/api/function_events", "/api/function_events/{name}"
_WHERE = {NAMESPACE: "The namespace; the dashboard's own without."}
_OF = {**_WHERE, FUNCTION: "Only events of this function."}
_JSON = {"application/json": {"type": "object"}}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(_ALL, ("GET",), "read", every, "List function events by name.", _OF, gives=_JSON),
    Endpoint(_ONE, ("GET",), "read", one, "Get a function event.", _WHERE, gives=_JSON),
    Endpoint(_ALL, ("POST",), "write", create, "Keep an event.", _WHERE, _JSON, _JSON, status=201),
    Endpoint(_ONE, ("PUT",), "write", update, "Change an event.", _WHERE, _JSON, status=204),
    Endpoint(_ALL, ("PUT",), "write", update, "Change an event.", _WHERE, _JSON, status=204),
    Endpoint(_ALL, ("DELETE",), "write", delete, "Delete an event.", _WHERE, _JSON, status=204),
    Endpoint(_ONE, ("DELETE",), "write", delete, "Delete an event.", _WHERE, status=204),
)
