"""Put a function's workers to sleep, and wake them."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.endpoints import Endpoint, json_content
from fnbuild.dashboard.http import json_response, read_json
from fnbuild.dashboard.operations.model import refuse_if_changing
from fnbuild.dashboard.requests import NAMESPACE_PARAMETER, requested_function
from fnbuild.errors import UsageError
from fnbuild.platforms import FunctionKey, SleepAction

_ACTIONS: dict[object, SleepAction] = {"asleep": "sleep", "awake": "wake"}


async def put_sleep(request: Request) -> Response:
    """Change the state of the workers; respond once they are asleep or awake."""
    entry, platform = await requested_function(request)
    state = (await read_json(request)).get("state")
    action = _ACTIONS.get(state)
    if action is None:
        raise UsageError(f"state {state!r} is not supported", hint="asleep or awake")
    refuse_if_changing(entry.deployment)
    key = FunctionKey.of(entry.deployment.function)
    await anyio.to_thread.run_sync(partial(platform.change_sleep, *key, action))
    return json_response({"state": state})


_STATE = json_content({"state": {"enum": list(_ACTIONS)}}, "state")

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/functions/{name}/sleep",
        "PUT",
        "write",
        put_sleep,
        "Put the workers of a function to sleep, or wake them",
        parameters=NAMESPACE_PARAMETER,
        request_content=_STATE,
        response_content=_STATE,
    ),
)
