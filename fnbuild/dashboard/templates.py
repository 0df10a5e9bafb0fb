"""The library of functions, and the same as templates for Nuclio's clients
(pkg/dashboard/resource/functiontemplate.go)."""

from __future__ import annotations

import base64

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.answers import json_response
from fnbuild.dashboard.endpoints import BODY_LIMIT, Endpoint
from fnbuild.dashboard.examinations import Examination
from fnbuild.dashboard.guard import is_writer
from fnbuild.dashboard.library import Found
from fnbuild.dashboard.objects import redacted
from fnbuild.dashboard.services import services_of
from fnbuild.dashboard.sources import LIBRARY
from fnbuild.spec import redact
from fnbuild.spec.locate import NAMES
from fnbuild.spec.redact import Variables
from fnbuild.spec.secrets import REDACTED
from fnbuild.spec.types import Raw, to_dict

_CONTAINS = "x-nuclio-filter-contains"
_ALONE = "main.py"


async def library(request: Request) -> Response:
    """The functions that can be deployed as `library:NAME`."""
    found, values = await _functions(request), is_writer(request)
    described = {name: _described(one, values=values) for name, one in found.items()}
    return json_response({"functions": described})


def _described(one: Found, *, values: bool) -> Raw:
    """Describe a function; without `values`, leave out the values of its file's variables."""
    annotations = one.function.metadata.annotations
    return {
        "title": annotations.get("name") or one.function.metadata.name,
        "description": one.function.spec.description,
        "type": annotations.get("type", ""),
        "files": one.files,
        "metadata": {**to_dict(one.function.metadata), "namespace": ""},
        "configuration": one.text if values else _without_values(one.text),
    }


def _without_values(text: str) -> str:
    return redact.redacted(text.encode(), NAMES[0], Variables(REDACTED, every=True)).decode()


async def templates(request: Request) -> Response:
    """Each function of the library as `{metadata, spec}`, by name."""
    found = await _functions(request)
    wanted = request.headers.get(_CONTAINS, "").lower()
    chosen = {name: one for name, one in found.items() if wanted in f"{name}\n{one.text}".lower()}
    values = is_writer(request)
    made = await to_thread.run_sync(
        lambda: {name: _template(one, values=values) for name, one in chosen.items()}
    )
    return json_response(made)


def _template(one: Found, *, values: bool) -> Raw:
    """The function with its code in it where that is one file, else with its place."""
    raw = to_dict(one.function)
    if not values:
        raw = redacted(raw, values=False)
    raw["metadata"].pop("namespace", None)
    build = raw["spec"].setdefault("build", {})
    code = one.folder / _ALONE
    if one.files == 2 and code.is_file():
        build["functionSourceCode"] = base64.b64encode(code.read_bytes()).decode()
    else:
        build["path"] = f"{LIBRARY}{one.place}"
    return {"metadata": raw["metadata"], "spec": raw["spec"]}


async def render(request: Request) -> Response:
    """A function.yaml with `{{ .name }}` in it and values for these: the function they make."""
    return await services_of(request).cpu_workers.answer(
        request, Examination("template"), BODY_LIMIT
    )


async def _functions(request: Request) -> dict[str, Found]:
    found = services_of(request).library
    return await to_thread.run_sync(lambda: found.functions)


_OBJECT = {"application/json": {"type": "object"}}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/library",
        ("GET",),
        "read",
        library,
        "The functions that this dashboard can deploy by `library:NAME`.",
        gives=_OBJECT,
    ),
    Endpoint(
        "/api/function_templates",
        ("GET",),
        "read",
        templates,
        "The library as templates: an object by name.",
        parameters={_CONTAINS: "Only templates with this text in name or configuration."},
        gives=_OBJECT,
    ),
    Endpoint(
        "/api/function_templates/render",
        ("POST",),
        "read",
        render,
        "A template with its values filled in, as a function.",
        takes={
            "application/json": {
                "type": "object",
                "properties": {"template": {"type": "string"}, "values": {"type": "object"}},
            }
        },
        gives=_OBJECT,
    ),
)
