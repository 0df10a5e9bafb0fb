"""Create, change and delete functions as Nuclio's clients do (pkg/dashboard/resource/function.go).

An invalid request is refused at once and changes nothing. Otherwise the operation is recorded, the
response is 202, and the function's status and the operation's output tell its progress.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import anyio
import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fnbuild.dashboard.api import events
from fnbuild.dashboard.endpoints import JSON_OBJECT, TEXT, Endpoint, json_content
from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.http import json_response, read_json
from fnbuild.dashboard.operations import planning
from fnbuild.dashboard.operations.model import (
    Operation,
    PlannedOperation,
    in_progress_error,
    refuse_if_changing,
)
from fnbuild.dashboard.operations.runner import OperationRunner
from fnbuild.dashboard.requests import (
    AUTOFIX_HEADER,
    NAMESPACE_HEADER,
    NAMESPACE_PARAMETER,
    PROJECT_HEADER,
    WAIT_HEADER,
    WAIT_PARAMETER,
    FunctionBody,
    FunctionReference,
    duration_header,
    function_namespace,
    has_header_flag,
    read_function,
    read_reference,
)
from fnbuild.dashboard.services import services_of
from fnbuild.errors import NotFoundError, UnavailableError, UsageError
from fnbuild.names import PLATFORMS
from fnbuild.platforms import FunctionKey, Progress, imported_code

TIMEOUT_HEADER = "x-nuclio-creation-state-updated-timeout"
IGNORE_STATE_HEADER = "x-nuclio-delete-function-ignore-state-validation"
IMPORTED_ONLY_HEADER = "x-nuclio-imported-function-only"
PLATFORM_HEADER = "x-fnbuild-platform"

_TIMEOUT_SECONDS = 60.0


async def create_function(request: Request) -> Response:
    """Deploy a new function."""
    body = await read_function(request)
    if body.name:
        await _refuse_while_in_progress(request, body.namespace, body.name)
        if (entry := await _find_function(request, body.namespace, body.name)) is not None:
            refuse_if_changing(entry.deployment)
            raise planning.already_exists_error(body.name)
    return await _deploy(request, body, None)


async def replace_function(request: Request) -> Response:
    """Deploy a function with another configuration, or a new function.

    The name in the body takes precedence, as in Nuclio.
    """
    body = await read_function(request)
    if not body.name:
        raise UsageError("the function has no metadata.name", hint="the body needs its name")
    await _refuse_while_in_progress(request, body.namespace, body.name)
    entry = await _find_function(request, body.namespace, body.name)
    if entry is not None:
        refuse_if_changing(entry.deployment)
        # A shadowed function is listed as NAME@PLATFORM.
        body = body.with_name(entry.deployment.name)
    return await _deploy(request, body, entry)


async def _deploy(request: Request, body: FunctionBody, entry: FunctionEntry | None) -> Response:
    services = services_of(request)
    platform_name = (
        entry.platform if entry is not None else request.headers.get(PLATFORM_HEADER, "")
    )
    platform = services.inventory.platform(platform_name)
    planned: PlannedOperation | None = None
    with anyio.move_on_after(duration_header(request, TIMEOUT_HEADER, _TIMEOUT_SECONDS)):
        work = partial(planning.plan_deploy, services, platform, body)
        planned = await to_thread.run_sync(work, abandon_on_cancel=True)
    if planned is None:
        raise UnavailableError(
            "Timed out waiting for creation state to be set",
            hint=f"{TIMEOUT_HEADER} sets the time limit",
        )
    return await _respond(request, planned)


async def _respond(request: Request, planned: PlannedOperation) -> Response:
    """Begin an operation; respond at once, or after its end if the client waits for it."""
    operation = await begin_operation(request, planned)
    if has_header_flag(request, WAIT_HEADER):
        await services_of(request).operations.wait_for_success(operation)
    return Response(status_code=202)


async def begin_operation(request: Request, planned: PlannedOperation) -> Operation:
    """Begin an operation for the actor of a request."""
    begin = services_of(request).operations.begin
    return await to_thread.run_sync(begin, planned, request.state.actor)


async def patch_function(request: Request) -> Response:
    """Start a function again, or scale it to zero."""
    state = (await read_json(request)).get("desiredState")
    if state in (None, ""):
        return Response(status_code=204)
    if state not in ("ready", "scaledToZero"):
        raise UsageError(
            f"desiredState {state!r} is not supported",
            hint="ready starts the function again, scaledToZero runs no replicas of it",
        )
    key = FunctionReference(function_namespace(request), request.path_params["name"])
    await _refuse_while_in_progress(request, key.namespace, key.name)
    services = services_of(request)
    entry = await services.inventory.function(key.namespace, key.name)
    if has_header_flag(request, IMPORTED_ONLY_HEADER) and entry.deployment.state != "imported":
        return Response(status_code=202)
    refuse_if_changing(entry.deployment)
    platform = services.inventory.platform(entry.platform)
    plan = planning.plan_start if state == "ready" else planning.plan_scale_to_zero
    return await _respond(request, await to_thread.run_sync(plan, platform, entry.deployment))


async def delete_function(request: Request) -> Response:
    """Delete a function. The response is 204 even if there is none."""
    services = services_of(request)
    key = await read_reference(request)
    if has_header_flag(request, IGNORE_STATE_HEADER):
        await _wait_for_end(request, key)
    else:
        await _refuse_while_in_progress(request, key.namespace, key.name)
    entry = await _find_function(request, key.namespace, key.name)
    if entry is None:
        return Response(status_code=204)
    if not has_header_flag(request, IGNORE_STATE_HEADER):
        refuse_if_changing(entry.deployment)
    planning.refuse_stale_version(key.version, entry.deployment)
    await services.operations.wait_for_success(await begin_delete(request, entry))
    return Response(status_code=204)


async def begin_delete(request: Request, entry: FunctionEntry) -> Operation:
    """Begin to delete a function with its imported code and its events."""
    services = services_of(request)
    key = FunctionKey.of(entry.deployment.function)
    platform = services.inventory.platform(entry.platform)

    def work(_: Progress) -> None:
        platform.delete(*key)
        imported_code.remove(platform.name, key)
        events.delete_function_events(services.store, *key)

    return await begin_operation(request, PlannedOperation(key, platform.name, "delete", work))


async def _find_function(request: Request, namespace: str, name: str) -> FunctionEntry | None:
    try:
        return await services_of(request).inventory.function(namespace, name)
    except NotFoundError:
        return None


async def _refuse_while_in_progress(request: Request, namespace: str, name: str) -> None:
    newest = services_of(request).operations.newest
    operation = await to_thread.run_sync(newest, namespace, name.partition("@")[0])
    if operation is not None and operation.in_progress:
        raise in_progress_error(operation)


async def _wait_for_end(request: Request, key: FunctionReference) -> None:
    """Wait for a running operation, which cannot be stopped and which the client ignores."""
    operations = services_of(request).operations
    operation = await to_thread.run_sync(operations.newest, key.namespace, key.name)
    if operation is not None:
        await operations.wait_until_ended(operation)


async def get_operation(request: Request) -> Response:
    """Return the newest operation of a function with its output."""
    operation = await _newest_operation(request)
    lines = await to_thread.run_sync(services_of(request).operations.output_lines, operation)
    return json_response(
        {
            "id": operation.id,
            "action": operation.action,
            "state": operation.state,
            "started": operation.started,
            "ended": operation.ended,
            "message": operation.message,
            "actor": operation.actor,
            "lines": lines,
        }
    )


async def follow_operation(request: Request) -> Response:
    """Send server-sent events: `line` from the first line on, `state` at each change of state."""
    operation = await _newest_operation(request)
    events = _events(services_of(request).operations, operation)
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def _events(operations: OperationRunner, operation: Operation) -> AsyncIterator[bytes]:
    async for kind, value in operations.follow(operation):
        yield b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(value))


async def _newest_operation(request: Request) -> Operation:
    namespace, name = function_namespace(request), request.path_params["name"].partition("@")[0]
    newest = services_of(request).operations.newest
    operation = await to_thread.run_sync(newest, namespace, name)
    if operation is None:
        raise NotFoundError(
            f"no operation of {name!r} is recorded",
            hint="operations that were requested here are recorded",
        )
    return operation


_FUNCTION = json_content(
    {"metadata": {"type": "object"}, "spec": {"type": "object"}}, "metadata", "spec"
)
_FUNCTION_CONTENT = {**_FUNCTION, "application/yaml": TEXT}
_WAIT_PARAMETERS = {
    NAMESPACE_HEADER: "The namespace; by default the one in the body, else the dashboard's own.",
    **WAIT_PARAMETER,
}
_PLATFORMS = [entry.name for entry in PLATFORMS]
_DEPLOY_PARAMETERS = _WAIT_PARAMETERS | {
    PROJECT_HEADER: "The project of the function, which has to exist.",
    TIMEOUT_HEADER: "The time limit for the start of the operation, as in `1m`.",
    AUTOFIX_HEADER: "`true` sets minReplicas to maxReplicas for a v3ioStream trigger,"
    " as in Nuclio.",
    PLATFORM_HEADER: f"The platform of a new function: {', '.join(_PLATFORMS[:-1])} or"
    f" {_PLATFORMS[-1]}.",
}
_DELETE_PARAMETERS = {
    NAMESPACE_HEADER: _WAIT_PARAMETERS[NAMESPACE_HEADER],
    IGNORE_STATE_HEADER: "`true` waits for the end of a running operation.",
}
_ITEM = "/api/functions/{name}"
_COLLECTION = "/api/functions"
_OPERATION = "/api/functions/{name}/operation"

_REPLACE = Endpoint(
    _COLLECTION,
    "PUT",
    "write",
    replace_function,
    "Deploy a new or existing function.",
    _DEPLOY_PARAMETERS,
    _FUNCTION_CONTENT,
    status=202,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        _COLLECTION,
        "POST",
        "write",
        create_function,
        "Deploy a new function.",
        _DEPLOY_PARAMETERS,
        _FUNCTION_CONTENT,
        status=202,
    ),
    _REPLACE,
    replace(_REPLACE, path=_ITEM),
    Endpoint(
        _ITEM,
        "PATCH",
        "write",
        patch_function,
        "Start a function again, or scale it to zero.",
        _WAIT_PARAMETERS | {IMPORTED_ONLY_HEADER: "`true` starts imported functions only."},
        json_content({"desiredState": {"enum": ["ready", "scaledToZero"]}}),
        status=202,
    ),
    Endpoint(
        _COLLECTION,
        "DELETE",
        "write",
        delete_function,
        "Delete the function in the body's metadata.",
        _DELETE_PARAMETERS,
        _FUNCTION,
        status=204,
    ),
    Endpoint(
        _ITEM,
        "DELETE",
        "write",
        delete_function,
        "Delete a function.",
        _DELETE_PARAMETERS,
        status=204,
    ),
    Endpoint(
        _OPERATION,
        "GET",
        "read",
        get_operation,
        "Get the newest operation of a function with its output.",
        parameters=NAMESPACE_PARAMETER,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        f"{_OPERATION}/stream",
        "GET",
        "read",
        follow_operation,
        "Follow the output of the newest operation as server-sent events until its end.",
        parameters=NAMESPACE_PARAMETER,
        response_content={"text/event-stream": {"type": "string"}},
    ),
)
