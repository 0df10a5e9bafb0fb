"""What is on record about a function: its configuration, its revisions, how these differ, and the
way back to one of them.
"""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.builder.staging import FileTree, scan_folder
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.http import json_response, read_json
from fnbuild.dashboard.inventory import FunctionEntry
from fnbuild.dashboard.objects import hide_secrets, redact_values
from fnbuild.dashboard.operations.model import refuse_if_changing
from fnbuild.dashboard.requests import (
    NAMESPACE_HEADER,
    WAIT_HEADER,
    function_namespace,
    has_flag_header,
)
from fnbuild.dashboard.services import services_of
from fnbuild.deploy import diff
from fnbuild.errors import NotFoundError, UsageError
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.function.yaml_writer import as_yaml
from fnbuild.platforms import Platform, Revision

REVISION_HEADER = "X-Fnbuild-Revision"
"""The header with the number of the revision that a configuration is of; 0 before the first."""
_PARAMETERS = {NAMESPACE_HEADER: "The namespace; the dashboard's own without."}


async def get_configuration(request: Request) -> Response:
    """Return the function as a function.yaml without secrets, with its revision in a header."""
    listed, _ = await _find_function(request)
    text = as_yaml(_visible_values(listed.deployment.function, values=is_writer(request))) + "\n"
    headers = {REVISION_HEADER: str(listed.deployment.revision)}
    return Response(text, headers=headers, media_type="application/yaml")


async def list_revisions(request: Request) -> Response:
    """All recorded revisions, newest first."""
    listed, platform = await _find_function(request)
    found = await anyio.to_thread.run_sync(_revisions, platform, listed)
    return json_response({"revisions": [_revision_object(one) for one in found]})


async def compare_revisions(request: Request) -> Response:
    """How revision `n` differs from `with`, else from the one before it."""
    listed, platform = await _find_function(request)
    wanted = _parse_number(request.path_params["number"])
    other = request.query_params.get("with")
    since = None if other is None else _parse_number(other)
    compare = partial(_compare, platform, listed, since, wanted, values=is_writer(request))
    async with services_of(request).reading.whole():
        comparison = await anyio.to_thread.run_sync(compare)
    return json_response(comparison)


async def roll_back(request: Request) -> Response:
    """Run a recorded revision again: an operation, as a deploy is."""
    services = services_of(request)
    listed, platform = await _find_function(request)
    refuse_if_changing(listed.deployment)
    asked = (await read_json(request)).get("revision")
    wanted = None if asked is None else _parse_number(asked)
    found = await anyio.to_thread.run_sync(_revisions, platform, listed)
    if wanted is not None:
        _find_revision(listed, found, wanted)
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
    if has_flag_header(request, WAIT_HEADER):
        await services.operations.outcome(operation)
        operation = await services.operations.ended(operation)
    return json_response(
        {"id": operation.id, "action": operation.action, "state": operation.state}, 202
    )


async def _find_function(request: Request) -> tuple[FunctionEntry, Platform]:
    services = services_of(request)
    name = request.path_params["name"]
    listed = await services.inventory.function(function_namespace(request), name)
    return listed, services.inventory.platform(listed.platform)


def _revisions(platform: Platform, listed: FunctionEntry) -> list[Revision]:
    metadata = listed.deployment.function.metadata
    return platform.revisions(metadata.namespace, metadata.name)


def _revision_object(one: Revision) -> Raw:
    return {
        "number": one.number,
        "created": one.created,
        "state": one.state,
        "digest": one.digest,
        "message": hide_secrets(one.message, one.function),
    }


def _parse_number(text: object) -> int:
    """The number of a revision as a request has it."""
    digits = str(text)
    if isinstance(text, bool) or not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise UsageError(f"{text!r} is not the number of a revision", hint="a number from 1 on")
    return int(digits)


def _find_revision(listed: FunctionEntry, found: list[Revision], number: int) -> Revision:
    for one in found:
        if one.number == number:
            return one
    numbers = ", ".join(str(one.number) for one in found)
    raise NotFoundError(
        f"{listed.name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
    )


def _compare(
    platform: Platform, listed: FunctionEntry, since: int | None, wanted: int, *, values: bool
) -> Raw:
    """`code` is null where the platform does not keep that of both."""
    found = _revisions(platform, listed)
    new = _find_revision(listed, found, wanted)
    if since is None:
        older = [one for one in found if one.number < wanted]
        old = older[0] if older else new
    else:
        old = _find_revision(listed, found, since)
    sides = (f"revision {old.number}", f"revision {new.number}")
    before, after = (_code_files(platform, listed, one.number) for one in (old, new))
    code = None
    if before is not None and after is not None:
        code = diff.diff_code(before, after, sides)
    shown = [_visible_values(one.function, values=values, code=code is None) for one in (old, new)]
    return {
        "from": old.number,
        "to": new.number,
        "configuration": diff.diff_values(CONFIG_NAMES[0], shown[0], shown[1], sides),
        "code": code,
    }


def _code_files(platform: Platform, listed: FunctionEntry, number: int) -> FileTree | None:
    """Return the files of a revision except its configuration and the variants of it.

    These may hold secrets, and the configuration is compared by its values.
    """
    metadata = listed.deployment.function.metadata
    folder = platform.code_folder(metadata.namespace, metadata.name, number)
    if folder is None:
        return None
    found = scan_folder(folder)
    for path in [path for path in found.entries if _is_configuration(path)]:
        del found.entries[path]
    return found


def _is_configuration(path: str) -> bool:
    return "/" not in path and path.endswith((".yaml", ".yml"))


def _visible_values(function: Function, *, values: bool, code: bool = True) -> Raw:
    """The plain values that a person may see, with the source code in them where it is wanted."""
    raw = redact_values(to_dict(function), values=values)
    if not code:
        raw.get("spec", {}).get("build", {}).pop("functionSourceCode", None)
    return raw


_JSON = {"application/json": {"type": "object"}}
_FUNCTION = "/api/functions/{name}"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        f"{_FUNCTION}/configuration",
        ("GET",),
        "read",
        get_configuration,
        "The configuration of a function as YAML",
        parameters=_PARAMETERS,
        gives={"application/yaml": {"type": "string"}},
    ),
    Endpoint(
        f"{_FUNCTION}/revisions",
        ("GET",),
        "read",
        list_revisions,
        "The recorded revisions of a function, newest first",
        parameters=_PARAMETERS,
        gives=_JSON,
    ),
    Endpoint(
        f"{_FUNCTION}/revisions/{{number}}/difference",
        ("GET",),
        "read",
        compare_revisions,
        "How a revision differs from another in configuration and code",
        parameters={
            **_PARAMETERS,
            "?with": "The other revision; the one before when it is missing",
        },
        gives=_JSON,
    ),
    Endpoint(
        f"{_FUNCTION}/rollback",
        ("POST",),
        "write",
        roll_back,
        "Run a recorded revision again, the last good one when none is named",
        parameters={
            **_PARAMETERS,
            WAIT_HEADER: "`true` answers when the change has ended, with its error if it failed.",
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
