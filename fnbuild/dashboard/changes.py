"""Changes of functions as Nuclio's clients ask for them (pkg/dashboard/resource/function.go).

What is wrong with a request is answered at once and changes nothing. Else the change is recorded,
the answer is 202, and what comes of it is told by the function's status.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard import events, planned, scaling
from fnbuild.dashboard.answers import json_body
from fnbuild.dashboard.bodies import (
    AUTOFIX,
    WAIT,
    Body,
    Key,
    function_of,
    is_set,
    key_of,
    seconds_of,
)
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.listed import Listed
from fnbuild.dashboard.namespaces import NAMESPACE, PROJECT, namespace_of
from fnbuild.dashboard.operation import Operation, provisioned, refuse_changing
from fnbuild.dashboard.planned import Change
from fnbuild.dashboard.services import services_of
from fnbuild.errors import NotFoundError, UnavailableError, UsageError
from fnbuild.platforms import Platform, Progress, imported_code

TIMEOUT = "x-nuclio-creation-state-updated-timeout"
IGNORE_STATE = "x-nuclio-delete-function-ignore-state-validation"
IMPORTED_ONLY = "x-nuclio-imported-function-only"
PLATFORM = "x-fnbuild-platform"

_TIMEOUT_SECONDS = 60.0


async def create(request: Request) -> Response:
    """Deploy a function that is not there yet."""
    body = await function_of(request)
    if body.name:
        await _refuse_provisioned(request, body.namespace, body.name)
        if (listed := await _known(request, body.namespace, body.name)) is not None:
            refuse_changing(listed.deployment)
            raise planned.already_there(body.name)
    return await _deploy(request, body, None)


async def replace(request: Request) -> Response:
    """Deploy a function by another configuration, or one that is not there yet.

    The name in the body is the one that counts, as in Nuclio.
    """
    body = await function_of(request)
    if not body.name:
        raise UsageError("the function has no metadata.name", hint="the body needs its name")
    await _refuse_provisioned(request, body.namespace, body.name)
    listed = await _known(request, body.namespace, body.name)
    if listed is not None:
        refuse_changing(listed.deployment)
        # One that another function's name shadows is listed as NAME@PLATFORM.
        body = body.named(listed.deployment.name)
    return await _deploy(request, body, listed)


async def _deploy(request: Request, body: Body, listed: Listed | None) -> Response:
    services = services_of(request)
    asked = listed.platform if listed is not None else request.headers.get(PLATFORM, "")
    platform = services.inventory.platform(asked)
    change: Change | None = None
    with anyio.move_on_after(seconds_of(request, TIMEOUT, _TIMEOUT_SECONDS)):
        work = partial(planned.deploy, services, platform, body)
        change = await to_thread.run_sync(work, abandon_on_cancel=True)
    if change is None:
        raise UnavailableError(
            "Timed out waiting for creation state to be set", hint=f"{TIMEOUT} gives it longer"
        )
    return await _begun(request, platform, change)


async def _begun(request: Request, platform: Platform, change: Change) -> Response:
    """Begin it; 202 at once, or what has come of it if the client wants to wait."""
    operations = services_of(request).operations
    metadata = change.function.metadata
    operation: Operation = await to_thread.run_sync(
        partial(
            operations.begin,
            metadata.namespace,
            metadata.name,
            platform=platform.name,
            action=change.action,
            actor=request.state.actor,
            function=change.function,
            work=change.work,
        )
    )
    if is_set(request, WAIT):
        await operations.outcome(operation)
    return Response(status_code=202)


async def patch(request: Request) -> Response:
    """Start a function again, or scale it to zero."""
    state = (await json_body(request)).get("desiredState")
    if state in (None, ""):
        return Response(status_code=204)
    if state not in ("ready", "scaledToZero"):
        raise UsageError(
            f"desiredState is {state!r}, which cannot be asked for",
            hint="ready starts the function again, scaledToZero runs no replicas of it",
        )
    key = Key(namespace_of(request), request.path_params["name"])
    await _refuse_provisioned(request, key.namespace, key.name)
    services = services_of(request)
    listed = await services.inventory.function(key.namespace, key.name)
    if is_set(request, IMPORTED_ONLY) and listed.deployment.state != "imported":
        return Response(status_code=202)
    refuse_changing(listed.deployment)
    platform = services.inventory.platform(listed.platform)
    plan = scaling.started if state == "ready" else scaling.stopped
    return await _begun(
        request, platform, await to_thread.run_sync(plan, platform, listed.deployment)
    )


async def delete(request: Request) -> Response:
    """Remove a function; 204 also when there is none."""
    services = services_of(request)
    key = await key_of(request)
    if is_set(request, IGNORE_STATE):
        await _wait_for_end(request, key)
    else:
        await _refuse_provisioned(request, key.namespace, key.name)
    listed = await _known(request, key.namespace, key.name)
    if listed is None:
        return Response(status_code=204)
    if not is_set(request, IGNORE_STATE):
        refuse_changing(listed.deployment)
    planned.refuse_stale(key.version, listed.deployment)
    await services.operations.outcome(await begin_delete(request, listed))
    return Response(status_code=204)


async def begin_delete(request: Request, listed: Listed) -> Operation:
    """Begin to remove a function with all that is kept with it."""
    services = services_of(request)
    metadata = listed.deployment.function.metadata
    key = (metadata.namespace, metadata.name)
    platform = services.inventory.platform(listed.platform)

    def work(_: Progress) -> None:
        platform.delete(*key)
        imported_code.remove(platform.name, key)
        events.forget(services.store, *key)

    return await to_thread.run_sync(
        partial(
            services.operations.begin,
            *key,
            platform=platform.name,
            action="delete",
            actor=request.state.actor,
            function=None,
            work=work,
        )
    )


async def _known(request: Request, namespace: str, name: str) -> Listed | None:
    try:
        return await services_of(request).inventory.function(namespace, name)
    except NotFoundError:
        return None


async def _refuse_provisioned(request: Request, namespace: str, name: str) -> None:
    newest = services_of(request).operations.newest
    found = await to_thread.run_sync(newest, namespace, name.partition("@")[0])
    if found is not None and found.under_way:
        raise provisioned(found)


async def _wait_for_end(request: Request, key: Key) -> None:
    """What runs cannot be stopped half way, so whoever ignores it waits for it."""
    operations = services_of(request).operations
    found = await to_thread.run_sync(operations.newest, key.namespace, key.name)
    if found is not None:
        await operations.ended(found)


_FUNCTION: dict[str, Any] = {
    "type": "object",
    "required": ["metadata", "spec"],
    "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
}
_TAKES = {"application/json": _FUNCTION, "application/yaml": {"type": "string"}}
_WAITING = {
    NAMESPACE: "The namespace; else the one in the body, else the dashboard's own.",
    WAIT: "`true` answers when the change has ended, with its error if it failed.",
}
_DEPLOYING = _WAITING | {
    PROJECT: "The project of the function, which has to exist.",
    TIMEOUT: "How long the change may take to begin, as in `1m`.",
    AUTOFIX: "`true` sets minReplicas to maxReplicas for a v3ioStream trigger, as in Nuclio.",
    PLATFORM: "Where a new function goes: process, local, kube or nuclio.",
}
_DELETING = {NAMESPACE: _WAITING[NAMESPACE], IGNORE_STATE: "`true` waits for a change to end."}
_ONE = "/api/functions/{name}"
_ALL = "/api/functions"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(_ALL, ("POST",), "write", create, "Deploy a new function.", _DEPLOYING, _TAKES,
             status=202),
    Endpoint(_ALL, ("PUT",), "write", replace, "Deploy a function, new or known.", _DEPLOYING,
             _TAKES, status=202),
    Endpoint(_ONE, ("PUT",), "write", replace, "Deploy a function, new or known.", _DEPLOYING,
             _TAKES, status=202),
    Endpoint(_ONE, ("PATCH",), "write", patch, "Start a function again, or scale it to zero.",
             _WAITING | {IMPORTED_ONLY: "`true` leaves alone what is not imported."},
             {"application/json": {
                 "type": "object",
                 "properties": {"desiredState": {"enum": ["ready", "scaledToZero"]}},
             }}, status=202),
    Endpoint(_ALL, ("DELETE",), "write", delete, "Delete the function in the body's metadata.",
             _DELETING, {"application/json": _FUNCTION}, status=204),
    Endpoint(_ONE, ("DELETE",), "write", delete, "Delete a function.", _DELETING, status=204),
)  # fmt: skip
