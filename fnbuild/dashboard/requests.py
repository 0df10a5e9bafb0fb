"""Read requests about functions: namespace, headers, and a function as JSON or function.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request

from fnbuild.dashboard.auth.middleware import require_access
from fnbuild.dashboard.function_entries import FunctionEntry
from fnbuild.dashboard.http import read_json
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError
from fnbuild.function import import_rules
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.quantities import parse_duration
from fnbuild.function.reader import config_error, function_from_dict, function_from_text
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.names import PROJECT_LABEL
from fnbuild.platforms import Platform

NAMESPACE_HEADER = "x-nuclio-function-namespace"
NAME_HEADER = "x-nuclio-function-name"
PROJECT_HEADER = "x-nuclio-project-name"
WAIT_HEADER = "x-nuclio-wait-function-action"
AUTOFIX_HEADER = "x-nuclio-autofix-function-configuration"

NAMESPACE_PARAMETER = {NAMESPACE_HEADER: "The namespace; by default the dashboard's own."}
WAIT_PARAMETER = {
    WAIT_HEADER: "`true` responds after the end of the operation, with its error if it failed."
}

_NAMESPACE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def check_namespace(name: str, place: str) -> None:
    """Raise `UsageError` unless the name is valid: every requested namespace is polled."""
    if not _NAMESPACE.fullmatch(name):
        raise UsageError(
            f"{name[:60]!r} cannot be a namespace",
            hint=f"{place} takes letters, digits and '-', 63 at most, as in `nuclio`",
        )


def namespace_in_header(request: Request, header: str) -> str:
    """Return the namespace in the header, else the dashboard's own."""
    return request.headers.get(header) or services_of(request).settings.namespace


def function_namespace(request: Request) -> str:
    """Return the namespace of a request about functions."""
    return namespace_in_header(request, NAMESPACE_HEADER)


async def requested_function(request: Request) -> tuple[FunctionEntry, Platform]:
    """Return the function in the path of the request, and its platform."""
    inventory, name = services_of(request).inventory, request.path_params["name"]
    entry = await inventory.function(function_namespace(request), name)
    return entry, inventory.platform(entry.platform)


def is_from_cvat(request: Request) -> bool:
    """Return True for CVAT, for which one function that it cannot read breaks the whole list."""
    agent = request.headers.get("user-agent", "")
    return agent.startswith("CVAT/") or "x-nuclio-invoke-via" in request.headers


def has_query_flag(request: Request, flag: str) -> bool:
    """Return True if the query sets the flag."""
    return request.query_params.get(flag, "").lower() == "true"


def wants_secrets(request: Request) -> bool:
    """Return True if an export is to include secret values. Raises without the write role."""
    wanted = has_query_flag(request, "with-secrets")
    if wanted:
        require_access(request, "write")
    return wanted


_FUNCTION_HINT = 'a function is {"metadata": {"name": …}, "spec": {…}}'


@dataclass(frozen=True, slots=True)
class FunctionBody:
    """A function in the body of a request, with the namespace and project of the request.

    `text` is its source. If that is YAML, it has the places of diagnostics.
    """

    function: Function
    text: bytes
    yaml: bool

    @property
    def name(self) -> str:
        return self.function.metadata.name

    @property
    def namespace(self) -> str:
        return self.function.metadata.namespace

    def with_name(self, name: str) -> FunctionBody:
        """Return the same function under another name."""
        return replace(self, function=self.function.with_metadata(name=name))


async def read_function(request: Request) -> FunctionBody:
    """Read the function in a request's body. Raises `UsageError` and `ConfigError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("yaml"):
        text = await request.body()
        function, report = await to_thread.run_sync(
            function_from_text, text.decode("utf-8", "replace"), CONFIG_NAMES[0]
        )
        if report.errors:
            raise config_error(report, CONFIG_NAMES[0])
        # The namespace of a file never counts, as with nuctl.
        return _repair_if_requested(
            request, FunctionBody(_with_request_metadata(request, function, ""), text, yaml=True)
        )
    raw = await read_json(request)
    for key in ("metadata", "spec"):
        if not isinstance(raw.get(key), dict):
            raise UsageError(f"the function has no {key}", hint=_FUNCTION_HINT)
    raw.pop("status", None)
    function = await to_thread.run_sync(function_from_dict, raw, "the function")
    function = _with_request_metadata(request, function, function.metadata.namespace)
    return _repair_if_requested(
        request, FunctionBody(function, msgspec.json.encode(raw), yaml=False)
    )


def _repair_if_requested(request: Request, body: FunctionBody) -> FunctionBody:
    """Repair what Nuclio repairs, if the request has the header for it.

    A repaired function differs from its text, so diagnostics have no places in it.
    """
    if not has_header_flag(request, AUTOFIX_HEADER):
        return body
    function, repair = import_rules.repair_replicas(body.function)
    if not repair:
        return body
    return FunctionBody(function, msgspec.json.encode(to_dict(function)), yaml=False)


def _with_request_metadata(request: Request, function: Function, written: str) -> Function:
    metadata = function.metadata
    labels = metadata.labels
    if project := request.headers.get(PROJECT_HEADER):
        labels = {**labels, PROJECT_LABEL: project}
    return function.with_metadata(
        name=metadata.name or request.path_params.get("name", ""),
        labels=labels,
        namespace=_body_namespace(request, written),
    )


def _body_namespace(request: Request, written: str) -> str:
    own = services_of(request).settings.namespace
    return request.headers.get(NAMESPACE_HEADER) or written or own


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """A function that a request names; `version` is the one that the client read, "" for any."""

    namespace: str
    name: str
    version: str = ""


async def read_reference(request: Request) -> FunctionReference:
    """Return the function named in the path or in the body's metadata. Raises `UsageError`."""
    path_name = request.path_params.get("name", "")
    has_body = request.headers.get("content-length", "0") != "0"
    raw = {} if path_name and not has_body else await read_json(request)
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UsageError("metadata is not an object", hint=_FUNCTION_HINT)
    name = path_name or _metadata_text(metadata, "name")
    if not name:
        raise UsageError("the function has no metadata.name", hint=_FUNCTION_HINT)
    namespace = _body_namespace(request, _metadata_text(metadata, "namespace"))
    return FunctionReference(namespace, name, _metadata_text(metadata, "resourceVersion"))


def _metadata_text(metadata: Raw, key: str) -> str:
    value: Any = metadata.get(key) or ""
    if not isinstance(value, str):
        raise UsageError(f"metadata.{key} is {value!r}, which is not text")
    return value


def duration_header(request: Request, header: str, default: float) -> float:
    """Return a header's Go duration, such as `1m`, in seconds. Raises `UsageError`."""
    text = request.headers.get(header)
    try:
        return default if not text else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{header}: {error}") from error


def has_header_flag(request: Request, header: str) -> bool:
    """Return True if the header is set to true."""
    return request.headers.get(header, "").lower() in ("1", "t", "true")
