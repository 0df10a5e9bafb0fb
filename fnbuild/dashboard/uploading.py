"""Uploads of code (`uploads`) as clients send them."""

from __future__ import annotations

import re
from pathlib import Path

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild import trees
from fnbuild.dashboard.answers import diagnostic_object, json_response, limited
from fnbuild.dashboard.endpoints import Endpoint
from fnbuild.dashboard.library import Found
from fnbuild.dashboard.services import services_of
from fnbuild.dashboard.uploads import LIMIT, Uploads, incoming, taken
from fnbuild.errors import UsageError
from fnbuild.spec.types import Raw, to_dict

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")
_FILE_HEADER = "x-fnbuild-file-name"


async def upload(request: Request) -> Response:
    """Take an archive or a file in; 201 with the path that a deploy names it by."""
    name = request.headers.get(_FILE_HEADER, "")
    if name and not _FILE_NAME.match(name):
        raise UsageError(
            f"{_FILE_HEADER} is {name!r}, which is no plain file name", hint="as in main.py"
        )
    folder = incoming()
    folder.mkdir(mode=0o700)
    try:
        received = folder / "received"
        stream = Request(request.scope, limited(request.receive, LIMIT)).stream()
        async with await anyio.open_file(received, "wb") as file:
            async for part in stream:
                await file.write(part)
        answer = await anyio.to_thread.run_sync(
            _answer, services_of(request).uploads, folder, received, name
        )
    finally:
        # An archive may have had many thousands of files.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(trees.try_remove, folder)
    return json_response(answer, 201)


def _answer(uploads: Uploads, folder: Path, received: Path, name: str) -> Raw:
    """What was received, unpacked and kept; the answer to whoever sent it."""
    made, found = taken(uploads, folder, received, name)
    if len(found) == 1:
        return _described(made, found[0])
    nothing: Raw = {
        "path": made,
        "name": "",
        "configuration": "",
        "metadata": {},
        "diagnostics": [],
    }
    listed = [_described(f"{made}/{one.place}", one) for one in found]
    return nothing | ({"functions": listed} if listed else {})


def _described(path: str, one: Found) -> Raw:
    return {
        "path": path,
        "name": one.function.metadata.name,
        "configuration": one.text,
        "metadata": {**to_dict(one.function.metadata), "namespace": ""},
        "diagnostics": [diagnostic_object(finding, one.config) for finding in one.report],
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/uploads",
        ("POST",),
        "write",
        upload,
        "Send code: an archive, or one file; it is kept for an hour.",
        parameters={_FILE_HEADER: "The name of what is sent, which a single file needs."},
        takes={"application/octet-stream": {"type": "string", "format": "binary"}},
        gives={
            "application/json": {
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "name": {"type": "string"},
                    "configuration": {"type": "string"},
                    "metadata": {"type": "object"},
                    "diagnostics": {"type": "array", "items": {"type": "object"}},
                    "functions": {"type": "array", "items": {"type": "object"}},
                },
            }
        },
        status=201,
        limit=None,
    ),
)
