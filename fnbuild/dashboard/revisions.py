"""What is on record about a function: its configuration, its revisions, how these differ, and the
way back to one of them.
"""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild import difference
from fnbuild.build.tree import Contents, contents
from fnbuild.dashboard.answers import json_body, json_response
from fnbuild.dashboard.bodies import WAIT, is_set
from fnbuild.dashboard.endpoints import Endpoint, services_of
from fnbuild.dashboard.functions import NAMESPACE, namespace_of
from fnbuild.dashboard.listed import Listed
from fnbuild.dashboard.objects import redacted
from fnbuild.dashboard.operation import refuse_changing
from fnbuild.errors import NotFoundError, UsageError
from fnbuild.platforms import Platform, Revision
from fnbuild.spec.locate import NAMES
from fnbuild.spec.texts import as_yaml
from fnbuild.spec.types import Function, Raw, to_dict

_NAMED = {NAMESPACE: "The namespace; the dashboard's own without."}


async def configuration(request: Request) -> Response:
    """The function as a function.yaml, without secrets."""
    listed, _ = await _function(request)
    text = as_yaml(_shown(listed.deployment.function)) + "\n"
    return Response(text, media_type="application/yaml")


async def every(request: Request) -> Response:
    """All recorded revisions, newest first."""
    listed, platform = await _function(request)
    found = await anyio.to_thread.run_sync(_revisions, platform, listed)
    return json_response({"revisions": [_object(one) for one in found]})


async def compared(request: Request) -> Response:
    """How revision `n` differs from `with`, else from the one before it."""
    listed, platform = await _function(request)
    wanted = _number(request.path_params["number"])
    other = request.query_params.get("with")
    since = None if other is None else _number(other)
    return json_response(
        await anyio.to_thread.run_sync(_difference, platform, listed, since, wanted)
    )


async def rollback(request: Request) -> Response:
    """Run a recorded revision again: an operation, as a deploy is."""
    services = services_of(request)
    listed, platform = await _function(request)
    refuse_changing(listed.deployment)
    asked = (await json_body(request)).get("revision")
    wanted = None if asked is None else _number(asked)
    found = await anyio.to_thread.run_sync(_revisions, platform, listed)
    if wanted is not None:
        _numbered(listed, found, wanted)
    metadata = listed.deployment.function.metadata
    begin = partial(
        services.operations.begin,
        metadata.namespace,
        metadata.name,
        platform=platform.name,
        action="rollback",
        actor=request.state.actor,
        function=listed.deployment.function,
        work=partial(platform.rollback, metadata.namespace, metadata.name, wanted),
    )
    operation = await anyio.to_thread.run_sync(begin)
    if is_set(request, WAIT):
        await services.operations.outcome(operation)
        operation = await services.operations.ended(operation)
    return json_response(
        {"id": operation.id, "action": operation.action, "state": operation.state}, 202
    )


async def _function(request: Request) -> tuple[Listed, Platform]:
    services = services_of(request)
    name = request.path_params["name"]
    listed = await services.inventory.function(namespace_of(request), name)
    return listed, services.inventory.platform(listed.platform)


def _revisions(platform: Platform, listed: Listed) -> list[Revision]:
    metadata = listed.deployment.function.metadata
    return platform.revisions(metadata.namespace, metadata.name)


def _object(one: Revision) -> Raw:
    return {
        "number": one.number,
        "created": one.created,
        "state": one.state,
        "digest": one.digest,
        "message": one.message,
    }


def _number(text: object) -> int:
    """The number of a revision as a request has it."""
    digits = str(text)
    if isinstance(text, bool) or not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise UsageError(f"{text!r} is not the number of a revision", hint="a number from 1 on")
    return int(digits)


def _numbered(listed: Listed, found: list[Revision], number: int) -> Revision:
    for one in found:
        if one.number == number:
            return one
    numbers = ", ".join(str(one.number) for one in found)
    raise NotFoundError(
        f"{listed.name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
    )


def _difference(platform: Platform, listed: Listed, since: int | None, wanted: int) -> Raw:
    """`code` is null where the platform does not keep that of both."""
    found = _revisions(platform, listed)
    new = _numbered(listed, found, wanted)
    if since is None:
        older = [one for one in found if one.number < wanted]
        old = older[0] if older else new
    else:
        old = _numbered(listed, found, since)
    sides = (f"revision {old.number}", f"revision {new.number}")
    before, after = (_code(platform, listed, one.number) for one in (old, new))
    code = None
    if before is not None and after is not None:
        code = difference.of_code(before, after, sides)
    values = [_shown(one.function, code=code is None) for one in (old, new)]
    return {
        "from": old.number,
        "to": new.number,
        "configuration": difference.of_values(NAMES[0], values[0], values[1], sides),
        "code": code,
    }


def _code(platform: Platform, listed: Listed, number: int) -> Contents | None:
    """The files of a revision but its function.yaml, which is compared by its values: it may hold
    secrets.
    """
    metadata = listed.deployment.function.metadata
    folder = platform.source(metadata.namespace, metadata.name, number)
    if folder is None:
        return None
    found = contents(folder)
    for name in NAMES:
        found.entries.pop(name, None)
    return found


def _shown(function: Function, *, code: bool = True) -> Raw:
    """The plain values that a person may see, with the source code in them where it is wanted."""
    raw = redacted(to_dict(function))
    if not code:
        raw.get("spec", {}).get("build", {}).pop("functionSourceCode", None)
    return raw


_JSON = {"application/json": {"type": "object"}}
_ONE = "/api/functions/{name}"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        f"{_ONE}/configuration",
        ("GET",),
        "read",
        configuration,
        "The configuration of a function as YAML",
        parameters=_NAMED,
        gives={"application/yaml": {"type": "string"}},
    ),
    Endpoint(
        f"{_ONE}/revisions",
        ("GET",),
        "read",
        every,
        "The recorded revisions of a function, newest first",
        parameters=_NAMED,
        gives=_JSON,
    ),
    Endpoint(
        f"{_ONE}/revisions/{{number}}/difference",
        ("GET",),
        "read",
        compared,
        "How a revision differs from another in configuration and code",
        parameters={**_NAMED, "?with": "The other revision; the one before when it is missing"},
        gives=_JSON,
    ),
    Endpoint(
        f"{_ONE}/rollback",
        ("POST",),
        "write",
        rollback,
        "Run a recorded revision again, the last good one when none is named",
        parameters={
            **_NAMED,
            WAIT: "`true` answers when the change has ended, with its error if it failed.",
        },
        takes={
            "application/json": {
                "type": "object",
                "properties": {"revision": {"type": ["integer", "null"]}},
            }
        },
        gives=_JSON,
        status=202,
    ),
)
