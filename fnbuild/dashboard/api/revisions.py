"""A function's configuration and revisions, their differences, and rollback."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.builder.staging import FileTree, scan_folder
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import JSON_OBJECT, TEXT, Endpoint, json_content
from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.http import json_response, read_json
from fnbuild.dashboard.objects import hide_secrets, redact_values
from fnbuild.dashboard.operations.api import begin_operation
from fnbuild.dashboard.operations.model import PlannedOperation, refuse_if_changing
from fnbuild.dashboard.requests import (
    NAMESPACE_PARAMETER,
    WAIT_HEADER,
    WAIT_PARAMETER,
    has_header_flag,
    requested_function,
)
from fnbuild.dashboard.services import services_of
from fnbuild.deploy import diff
from fnbuild.errors import NotFoundError, UsageError
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.function.yaml_writer import as_yaml
from fnbuild.platforms import FunctionKey, Platform, Revision

REVISION_HEADER = "X-Fnbuild-Revision"
"""The header with the number of the configuration's revision; 0 before the first."""


async def get_configuration(request: Request) -> Response:
    """Return the function as a function.yaml without secrets, with its revision in a header."""
    entry, _ = await requested_function(request)
    text = (
        as_yaml(_visible_values(entry.deployment.function, show_values=is_writer(request))) + "\n"
    )
    headers = {REVISION_HEADER: str(entry.deployment.revision)}
    return Response(text, headers=headers, media_type="application/yaml")


async def list_revisions(request: Request) -> Response:
    """List the recorded revisions, newest first."""
    entry, platform = await requested_function(request)
    revisions = await anyio.to_thread.run_sync(_revisions, platform, entry)
    return json_response({"revisions": [_revision_object(revision) for revision in revisions]})


async def compare_revisions(request: Request) -> Response:
    """Compare a revision with the one in the query, else with the one before it."""
    entry, platform = await requested_function(request)
    new_number = _parse_number(request.path_params["number"])
    other = request.query_params.get("with")
    old_number = None if other is None else _parse_number(other)
    compare = partial(
        _compare, platform, entry, old_number, new_number, show_values=is_writer(request)
    )
    async with services_of(request).reading_limiter.admit_to_slot():
        comparison = await anyio.to_thread.run_sync(compare)
    return json_response(comparison)


async def roll_back(request: Request) -> Response:
    """Begin an operation that runs a recorded revision again."""
    services = services_of(request)
    entry, platform = await requested_function(request)
    refuse_if_changing(entry.deployment)
    revision = (await read_json(request)).get("revision")
    number = None if revision is None else _parse_number(revision)
    revisions = await anyio.to_thread.run_sync(_revisions, platform, entry)
    if number is not None:
        _find_revision(entry, revisions, number)
    function = entry.deployment.function
    work = partial(platform.rollback, *FunctionKey.of(function), number)
    planned = PlannedOperation.of(function, platform, "rollback", work)
    operation = await begin_operation(request, planned)
    if has_header_flag(request, WAIT_HEADER):
        await services.operations.wait_for_success(operation)
        operation = await services.operations.wait_until_ended(operation)
    return json_response(
        {"id": operation.id, "action": operation.action, "state": operation.state}, 202
    )


def _revisions(platform: Platform, entry: FunctionEntry) -> list[Revision]:
    return platform.revisions(*FunctionKey.of(entry.deployment.function))


def _revision_object(revision: Revision) -> Raw:
    return {
        "number": revision.number,
        "created": revision.created,
        "state": revision.state,
        "digest": revision.digest,
        "message": hide_secrets(revision.message, revision.function),
    }


def _parse_number(value: object) -> int:
    """Return the number of a revision in a path, query or body."""
    digits = str(value)
    if isinstance(value, bool) or not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise UsageError(f"{value!r} is not the number of a revision", hint="a number from 1 on")
    return int(digits)


def _find_revision(entry: FunctionEntry, revisions: list[Revision], number: int) -> Revision:
    for revision in revisions:
        if revision.number == number:
            return revision
    numbers = ", ".join(str(revision.number) for revision in revisions)
    raise NotFoundError(
        f"{entry.name} has no revision {number}", hint=f"recorded: {numbers or 'none'}"
    )


def _compare(
    platform: Platform,
    entry: FunctionEntry,
    old_number: int | None,
    new_number: int,
    *,
    show_values: bool,
) -> Raw:
    """Compare two revisions; `code` is None unless the platform stores the code of both."""
    revisions = _revisions(platform, entry)
    new = _find_revision(entry, revisions, new_number)
    if old_number is None:
        older = [revision for revision in revisions if revision.number < new_number]
        old = older[0] if older else new
    else:
        old = _find_revision(entry, revisions, old_number)
    titles = (f"revision {old.number}", f"revision {new.number}")
    old_files, new_files = (_code_files(platform, entry, each.number) for each in (old, new))
    code = None
    if old_files is not None and new_files is not None:
        code = diff.diff_code(old_files, new_files, titles)
    old_values, new_values = (
        _visible_values(each.function, show_values=show_values, code=code is None)
        for each in (old, new)
    )
    return {
        "from": old.number,
        "to": new.number,
        "configuration": diff.diff_values(CONFIG_NAMES[0], old_values, new_values, titles),
        "code": code,
    }


def _code_files(platform: Platform, entry: FunctionEntry, number: int) -> FileTree | None:
    """Return the files of a revision except its configuration and the variants of it.

    These may hold secrets, and the configuration is compared by its values.
    """
    folder = platform.code_folder(*FunctionKey.of(entry.deployment.function), number)
    if folder is None:
        return None
    files = scan_folder(folder)
    for path in [path for path in files.entries if _is_configuration(path)]:
        del files.entries[path]
    return files


def _is_configuration(path: str) -> bool:
    return "/" not in path and path.endswith((".yaml", ".yml"))


def _visible_values(function: Function, *, show_values: bool, code: bool = True) -> Raw:
    """Return the values of a function that the client may see, with or without inline code."""
    raw = redact_values(to_dict(function), show_values=show_values)
    if not code:
        raw.get("spec", {}).get("build", {}).pop("functionSourceCode", None)
    return raw


_FUNCTION = "/api/functions/{name}"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        f"{_FUNCTION}/configuration",
        "GET",
        "read",
        get_configuration,
        "Get the configuration of a function as YAML",
        parameters=NAMESPACE_PARAMETER,
        response_content={"application/yaml": TEXT},
    ),
    Endpoint(
        f"{_FUNCTION}/revisions",
        "GET",
        "read",
        list_revisions,
        "List the recorded revisions of a function, newest first",
        parameters=NAMESPACE_PARAMETER,
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        f"{_FUNCTION}/revisions/{{number}}/difference",
        "GET",
        "read",
        compare_revisions,
        "Compare the configuration and code of two revisions",
        parameters={
            **NAMESPACE_PARAMETER,
            "?with": "The other revision; by default the one before",
        },
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        f"{_FUNCTION}/rollback",
        "POST",
        "write",
        roll_back,
        "Run a recorded revision again, by default the last successful one",
        parameters={**NAMESPACE_PARAMETER, **WAIT_PARAMETER},
        request_content=json_content({"revision": {"type": ["integer", "null"]}}),
        response_content=JSON_OBJECT,
        status=202,
    ),
)
