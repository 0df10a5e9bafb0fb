"""The library of functions, and the same as templates for Nuclio's clients
(pkg/dashboard/resource/functiontemplate.go)."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.answers import json_body, json_response
from fnbuild.dashboard.endpoints import Endpoint, services_of
from fnbuild.dashboard.library import Found
from fnbuild.dashboard.sources import LIBRARY
from fnbuild.errors import InputError, UsageError
from fnbuild.spec.locate import NAMES
from fnbuild.spec.reader import failure, parse
from fnbuild.spec.source import MAX_BYTES
from fnbuild.spec.types import Raw, to_dict

_CONTAINS = "x-nuclio-filter-contains"
# What stands between the braces is cut by hand: a pattern for it would backtrack.
_PLACE = re.compile(r"\{\{([^{}\n]*)\}\}")
_NAME = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)\Z")
_ALONE = "main.py"


async def library(request: Request) -> Response:
    """The functions that can be deployed as `library:NAME`."""
    found = await _functions(request)
    return json_response({"functions": {name: _described(one) for name, one in found.items()}})


def _described(one: Found) -> Raw:
    annotations = one.function.metadata.annotations
    return {
        "title": annotations.get("name") or one.function.metadata.name,
        "description": one.function.spec.description,
        "type": annotations.get("type", ""),
        "files": one.files,
        "metadata": {**to_dict(one.function.metadata), "namespace": ""},
        "configuration": one.text,
    }


async def templates(request: Request) -> Response:
    """Each function of the library as `{metadata, spec}`, by name."""
    found = await _functions(request)
    wanted = request.headers.get(_CONTAINS, "").lower()
    chosen = {name: one for name, one in found.items() if wanted in f"{name}\n{one.text}".lower()}
    made = await to_thread.run_sync(lambda: {name: _template(one) for name, one in chosen.items()})
    return json_response(made)


def _template(one: Found) -> Raw:
    """The function with its code in it where that is one file, else with its place."""
    raw = to_dict(one.function)
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
    raw = await json_body(request)
    template, values = raw.get("template"), raw.get("values") or {}
    if not isinstance(template, str) or not isinstance(values, dict):
        raise UsageError(
            "a template is a text, and its values are an object",
            hint='{"template": "metadata: {name: {{ .name }}}", "values": {"name": "mine"}}',
        )
    made = await to_thread.run_sync(_rendered, template, values)
    return json_response({"metadata": made.get("metadata", {}), "spec": made.get("spec", {})})


def _rendered(template: str, values: dict[str, Any]) -> Raw:
    function, report = parse(_filled(template, values), NAMES[0])
    if report.errors:
        raise failure(report, "the template")
    return to_dict(function)


def _filled(template: str, values: dict[str, Any]) -> str:
    """The text with its values; `InputError` before it grows beyond what a function.yaml may be."""
    size = 0

    def counted(text: str) -> str:
        nonlocal size
        size += len(text)
        if size > MAX_BYTES:
            raise InputError(
                f"the template makes a function.yaml of more than {MAX_BYTES >> 20} MiB",
                hint="large texts belong in files beside function.yaml",
            )
        return text

    counted(template)
    return _PLACE.sub(lambda place: counted(_value(place[1].strip("- \t"), values)), template)


def _value(expression: str, values: dict[str, Any]) -> str:
    named = _NAME.match(expression)
    if named is None:
        raise InputError(
            f"{{{{ {expression[:80]} }}}} is more than the name of a value",
            hint="{{ .name }} is filled in; nothing else of Go's templates is",
        )
    if named[1] not in values:
        raise InputError(f"there is no value of the name {named[1]!r}", hint="values holds them")
    value = values[named[1]]
    return value if isinstance(value, str) else json.dumps(value)


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
