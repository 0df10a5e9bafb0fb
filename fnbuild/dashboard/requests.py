"""Read requests about functions: namespace, headers, and a function as JSON or function.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request

from fnbuild.dashboard.auth.middleware import require_access
from fnbuild.dashboard.http import read_body, read_json
from fnbuild.dashboard.services import services_of
from fnbuild.deploy.projects import PROJECT_LABEL
from fnbuild.errors import UsageError
from fnbuild.function import import_rules
from fnbuild.function.files import CONFIG_NAMES
from fnbuild.function.quantities import parse_duration
from fnbuild.function.reader import config_error, function_from_dict, parse_function
from fnbuild.function.types import Function, Raw, to_dict

NAMESPACE_HEADER = "x-nuclio-function-namespace"
NAME_HEADER = "x-nuclio-function-name"
PROJECT_HEADER = "x-nuclio-project-name"

_NAMESPACE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def check_namespace(name: str, place: str) -> None:
    """`UsageError` for what is none: every one that is asked about is looked after for a while."""
    if not _NAMESPACE.fullmatch(name):
        raise UsageError(
            f"{name[:60]!r} cannot be a namespace",
            hint=f"{place} takes letters, digits and '-', 63 at most, as in `nuclio`",
        )


def namespace_in_header(request: Request, header: str) -> str:
    """The namespace that the header names, else the dashboard's own."""
    return request.headers.get(header) or services_of(request).settings.namespace


def function_namespace(request: Request) -> str:
    """The namespace that a request is about."""
    return namespace_in_header(request, NAMESPACE_HEADER)


def is_from_cvat(request: Request) -> bool:
    """Whether CVAT asks. One function that it cannot read takes down its whole list."""
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


WAIT_HEADER = "x-nuclio-wait-function-action"
AUTOFIX_HEADER = "x-nuclio-autofix-function-configuration"

_FUNCTION_HINT = 'a function is {"metadata": {"name": …}, "spec": {…}}'


@dataclass(frozen=True, slots=True)
class FunctionBody:
    """A function as written, in the namespace and project of the request.

    `text` is what it was written in; places of findings are in it where that is YAML.
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

    def named(self, name: str) -> FunctionBody:
        """The same under another name."""
        metadata = msgspec.structs.replace(self.function.metadata, name=name)
        return replace(self, function=msgspec.structs.replace(self.function, metadata=metadata))


async def read_function(request: Request) -> FunctionBody:
    """The function that a request's body describes. Raises `UsageError` and `ConfigError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("yaml"):
        text = await read_body(request)
        function, report = await to_thread.run_sync(
            parse_function, text.decode("utf-8", "replace"), CONFIG_NAMES[0]
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
    """Repair what Nuclio repairs, if the request asks for it.

    A repaired function no longer is the one in the text, so findings have no places in it.
    """
    if not has_flag_header(request, AUTOFIX_HEADER):
        return body
    function, repair = import_rules.repair_replicas(body.function)
    if not repair:
        return body
    return FunctionBody(function, msgspec.json.encode(to_dict(function)), yaml=False)


def _with_request_metadata(request: Request, function: Function, written: str) -> Function:
    metadata = function.metadata
    if not metadata.name and (named := request.path_params.get("name")):
        metadata = msgspec.structs.replace(metadata, name=named)
    if project := request.headers.get(PROJECT_HEADER):
        labels = {**metadata.labels, PROJECT_LABEL: project}
        metadata = msgspec.structs.replace(metadata, labels=labels)
    metadata = msgspec.structs.replace(metadata, namespace=_body_namespace(request, written))
    return msgspec.structs.replace(function, metadata=metadata)


def _body_namespace(request: Request, written: str) -> str:
    own = services_of(request).settings.namespace
    return request.headers.get(NAMESPACE_HEADER) or written or own


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """A function that a request names; `version` is the one that it was seen in, "" for any."""

    namespace: str
    name: str
    version: str = ""


async def read_reference(request: Request) -> FunctionReference:
    """The function that the path names, or the metadata in the body. Raises `UsageError`."""
    named = request.path_params.get("name", "")
    has_body = request.headers.get("content-length", "0") != "0"
    raw = {} if named and not has_body else await read_json(request)
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UsageError("metadata is not an object", hint=_FUNCTION_HINT)
    name = named or _metadata_text(metadata, "name")
    if not name:
        raise UsageError("the function has no metadata.name", hint=_FUNCTION_HINT)
    namespace = _body_namespace(request, _metadata_text(metadata, "namespace"))
    return FunctionReference(namespace, name, _metadata_text(metadata, "resourceVersion"))


def _metadata_text(metadata: Raw, key: str) -> str:
    value: Any = metadata.get(key) or ""
    if not isinstance(value, str):
        raise UsageError(f"metadata.{key} is {value!r}, which is no text")
    return value


def duration_header(request: Request, header: str, default: float) -> float:
    """A header's Go duration, such as `1m`, in seconds. Raises `UsageError`."""
    text = request.headers.get(header)
    try:
        return default if not text else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{header}: {error}") from error


def has_flag_header(request: Request, header: str) -> bool:
    """Whether a header of yes or no says yes."""
    return request.headers.get(header, "").lower() in ("1", "t", "true")
