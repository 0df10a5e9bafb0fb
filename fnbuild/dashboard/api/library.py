"""Code for functions: the library, the same as Nuclio's templates, and uploads.

Templates are those of pkg/dashboard/resource/functiontemplate.go.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

import anyio.to_thread
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild import trees
from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.cpu_tasks import CpuTask
from fnbuild.dashboard.endpoints import BODY_LIMIT, Endpoint
from fnbuild.dashboard.http import diagnostic_object, json_response, limit_body
from fnbuild.dashboard.objects import redact_values
from fnbuild.dashboard.services import services_of
from fnbuild.dashboard.sources import (
    LIBRARY_PREFIX,
    UPLOAD_BYTES,
    FunctionFolder,
    Uploads,
    incoming_folder,
    store_upload,
)
from fnbuild.errors import UsageError
from fnbuild.function import secrets
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.secrets import REDACTED, VariableRedaction
from fnbuild.function.types import Raw, to_dict

_CONTAINS_HEADER = "x-nuclio-filter-contains"
_SINGLE_FILE = "main.py"


async def list_library(request: Request) -> Response:
    """The functions that can be deployed as `library:NAME`."""
    found, values = await _library_functions(request), is_writer(request)
    described = {name: _library_object(one, values=values) for name, one in found.items()}
    return json_response({"functions": described})


def _library_object(one: FunctionFolder, *, values: bool) -> Raw:
    """Describe a function; without `values`, leave out the values of its file's variables."""
    annotations = one.function.metadata.annotations
    return {
        "title": annotations.get("name") or one.function.metadata.name,
        "description": one.function.spec.description,
        "type": annotations.get("type", ""),
        "files": one.files,
        "metadata": {**to_dict(one.function.metadata), "namespace": ""},
        "configuration": one.text if values else _redact_values(one.text),
    }


def _redact_values(text: str) -> str:
    return secrets.redact_file(
        text.encode(), CONFIG_NAMES[0], VariableRedaction(REDACTED, every=True)
    ).decode()


async def list_templates(request: Request) -> Response:
    """Each function of the library as `{metadata, spec}`, by name."""
    found = await _library_functions(request)
    wanted = request.headers.get(_CONTAINS_HEADER, "").lower()
    chosen = {name: one for name, one in found.items() if wanted in f"{name}\n{one.text}".lower()}
    values = is_writer(request)
    made = await to_thread.run_sync(
        lambda: {name: _template_object(one, values=values) for name, one in chosen.items()}
    )
    return json_response(made)


def _template_object(one: FunctionFolder, *, values: bool) -> Raw:
    """The function with its code in it where that is one file, else with its place."""
    raw = to_dict(one.function)
    if not values:
        raw = redact_values(raw, values=False)
    raw["metadata"].pop("namespace", None)
    build = raw["spec"].setdefault("build", {})
    code = one.folder / _SINGLE_FILE
    if one.files == 2 and code.is_file():
        build["functionSourceCode"] = base64.b64encode(code.read_bytes()).decode()
    else:
        build["path"] = f"{LIBRARY_PREFIX}{one.place}"
    return {"metadata": raw["metadata"], "spec": raw["spec"]}


async def render_template(request: Request) -> Response:
    """A function.yaml with `{{ .name }}` in it and values for these: the function they make."""
    return await services_of(request).cpu_workers.answer(request, CpuTask("template"), BODY_LIMIT)


async def _library_functions(request: Request) -> dict[str, FunctionFolder]:
    found = services_of(request).library
    return await to_thread.run_sync(lambda: found.functions)


_OBJECT = {"application/json": {"type": "object"}}


_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")
_FILE_HEADER = "x-fnbuild-file-name"


async def upload(request: Request) -> Response:
    """Take an archive or a file in; 201 with the path that a deploy names it by."""
    name = request.headers.get(_FILE_HEADER, "")
    if name and not _FILE_NAME.match(name):
        raise UsageError(
            f"{_FILE_HEADER} is {name!r}, which is no plain file name", hint="as in main.py"
        )
    folder = incoming_folder()
    folder.mkdir(mode=0o700)
    try:
        received = folder / "received"
        stream = Request(request.scope, limit_body(request.receive, UPLOAD_BYTES)).stream()
        async with await anyio.open_file(received, "wb") as file:
            async for part in stream:
                await file.write(part)
        answer = await anyio.to_thread.run_sync(
            _receive, services_of(request).uploads, folder, received, name
        )
    finally:
        # An archive may have had many thousands of files.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(trees.try_remove, folder)
    return json_response(answer, 201)


def _receive(uploads: Uploads, folder: Path, received: Path, name: str) -> Raw:
    """What was received, unpacked and kept; the answer to whoever sent it."""
    made, found = store_upload(uploads, folder, received, name)
    if len(found) == 1:
        return _upload_object(made, found[0])
    nothing: Raw = {
        "path": made,
        "name": "",
        "configuration": "",
        "metadata": {},
        "diagnostics": [],
    }
    listed = [_upload_object(f"{made}/{one.place}", one) for one in found]
    return nothing | ({"functions": listed} if listed else {})


def _upload_object(path: str, one: FunctionFolder) -> Raw:
    return {
        "path": path,
        "name": one.function.metadata.name,
        "configuration": one.text,
        "metadata": {**to_dict(one.function.metadata), "namespace": ""},
        "diagnostics": [diagnostic_object(finding, one.config) for finding in one.report],
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/library",
        ("GET",),
        "read",
        list_library,
        "The functions that this dashboard can deploy by `library:NAME`.",
        gives=_OBJECT,
    ),
    Endpoint(
        "/api/function_templates",
        ("GET",),
        "read",
        list_templates,
        "The library as templates: an object by name.",
        parameters={_CONTAINS_HEADER: "Only templates with this text in name or configuration."},
        gives=_OBJECT,
    ),
    Endpoint(
        "/api/function_templates/render",
        ("POST",),
        "read",
        render_template,
        "A template with its values filled in, as a function.",
        takes={
            "application/json": {
                "type": "object",
                "properties": {"template": {"type": "string"}, "values": {"type": "object"}},
            }
        },
        gives=_OBJECT,
    ),
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
