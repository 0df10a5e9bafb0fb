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
from fnbuild.dashboard.endpoints import JSON_OBJECT, OBJECTS, TEXT, Endpoint, json_content
from fnbuild.dashboard.function_folders import (
    LIBRARY_PREFIX,
    UPLOAD_BYTES,
    FunctionFolder,
    Uploads,
    incoming_folder,
    store_upload,
)
from fnbuild.dashboard.http import diagnostic_object, json_response, limit_body
from fnbuild.dashboard.objects import redact_values
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError
from fnbuild.function.file_redaction import VariableRedaction, redact_config_text
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.secrets import REDACTED
from fnbuild.function.types import Raw, to_dict

_CONTAINS_HEADER = "x-nuclio-filter-contains"
_SINGLE_FILE = "main.py"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")
_FILE_HEADER = "x-fnbuild-file-name"


async def list_library(request: Request) -> Response:
    """List the functions that can be deployed as `library:NAME`."""
    functions, show_values = await _library_functions(request), is_writer(request)
    objects = {
        name: _library_object(item, show_values=show_values) for name, item in functions.items()
    }
    return json_response({"functions": objects})


def _library_object(item: FunctionFolder, *, show_values: bool) -> Raw:
    """Describe a function; without `show_values`, leave out the values of its file's variables."""
    annotations = item.function.metadata.annotations
    return {
        "title": annotations.get("name") or item.function.metadata.name,
        "description": item.function.spec.description,
        "type": annotations.get("type", ""),
        "files": item.file_count,
        "metadata": {**to_dict(item.function.metadata), "namespace": ""},
        "configuration": item.configuration if show_values else _redact_text(item.configuration),
    }


def _redact_text(text: str) -> str:
    return redact_config_text(
        text.encode(), CONFIG_NAMES[0], VariableRedaction(REDACTED, every=True)
    ).decode()


async def list_templates(request: Request) -> Response:
    """List the functions of the library as `{metadata, spec}` by name."""
    text = request.headers.get(_CONTAINS_HEADER, "").lower()
    selected = {
        name: item
        for name, item in (await _library_functions(request)).items()
        if text in f"{name}\n{item.configuration}".lower()
    }
    show_values = is_writer(request)
    templates = await to_thread.run_sync(
        lambda: {
            name: _template_object(item, show_values=show_values) for name, item in selected.items()
        }
    )
    return json_response(templates)


def _template_object(item: FunctionFolder, *, show_values: bool) -> Raw:
    """Return a function with inline code if it has one code file, else with its library path."""
    raw = to_dict(item.function)
    if not show_values:
        raw = redact_values(raw, show_values=False)
    raw["metadata"].pop("namespace", None)
    build = raw["spec"].setdefault("build", {})
    code = item.folder / _SINGLE_FILE
    if item.file_count == 2 and code.is_file():
        build["functionSourceCode"] = base64.b64encode(code.read_bytes()).decode()
    else:
        build["path"] = f"{LIBRARY_PREFIX}{item.path}"
    return {"metadata": raw["metadata"], "spec": raw["spec"]}


async def render_template(request: Request) -> Response:
    """Return the function of a template, whose placeholders such as `{{ .name }}` are filled."""
    return await services_of(request).cpu_pool.respond(request, CpuTask("template"))


async def _library_functions(request: Request) -> dict[str, FunctionFolder]:
    library = services_of(request).library
    return await to_thread.run_sync(lambda: library.functions)


async def upload(request: Request) -> Response:
    """Store an archive or a file; return the path by which a deploy names it."""
    name = request.headers.get(_FILE_HEADER, "")
    if name and not _FILE_NAME.match(name):
        raise UsageError(
            f"{_FILE_HEADER} is {name!r}, which is not a plain file name", hint="as in main.py"
        )
    folder = incoming_folder()
    folder.mkdir(mode=0o700)
    try:
        received = folder / "received"
        stream = Request(request.scope, limit_body(request.receive, UPLOAD_BYTES)).stream()
        async with await anyio.open_file(received, "wb") as file:
            async for chunk in stream:
                await file.write(chunk)
        upload_object = await anyio.to_thread.run_sync(
            _store, services_of(request).uploads, folder, received, name
        )
    finally:
        # An archive may have had many thousands of files.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(trees.try_remove, folder)
    return json_response(upload_object, 201)


def _store(uploads: Uploads, folder: Path, received: Path, name: str) -> Raw:
    """Store a received file, and describe the functions in it."""
    path, functions = store_upload(uploads, folder, received, name)
    if len(functions) == 1:
        return _upload_object(path, functions[0])
    without_function: Raw = {
        "path": path,
        "name": "",
        "configuration": "",
        "metadata": {},
        "diagnostics": [],
    }
    objects = [_upload_object(f"{path}/{item.path}", item) for item in functions]
    return without_function | ({"functions": objects} if objects else {})


def _upload_object(path: str, item: FunctionFolder) -> Raw:
    return {
        "path": path,
        "name": item.function.metadata.name,
        "configuration": item.configuration,
        "metadata": {**to_dict(item.function.metadata), "namespace": ""},
        "diagnostics": [
            diagnostic_object(diagnostic, item.config_name) for diagnostic in item.report
        ],
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/library",
        "GET",
        "read",
        list_library,
        "List the functions that this dashboard can deploy as `library:NAME`.",
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        "/api/function_templates",
        "GET",
        "read",
        list_templates,
        "List the library as templates by name.",
        parameters={_CONTAINS_HEADER: "Only templates with this text in name or configuration."},
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        "/api/function_templates/render",
        "POST",
        "read",
        render_template,
        "Render a template with values to a function.",
        request_content=json_content({"template": TEXT, "values": {"type": "object"}}),
        response_content=JSON_OBJECT,
    ),
    Endpoint(
        "/api/uploads",
        "POST",
        "write",
        upload,
        "Upload code as an archive or a single file; it is kept for an hour.",
        parameters={_FILE_HEADER: "The file name, which a single file requires."},
        request_content={"application/octet-stream": {"type": "string", "format": "binary"}},
        response_content=json_content(
            {
                "path": TEXT,
                "name": TEXT,
                "configuration": TEXT,
                "metadata": {"type": "object"},
                "diagnostics": OBJECTS,
                "functions": OBJECTS,
            }
        ),
        status=201,
        limit=None,
    ),
)
