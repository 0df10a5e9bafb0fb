"""The bodies of requests that change functions, as JSON or as a function.yaml."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request

from fnbuild.dashboard.answers import json_body, whole_body
from fnbuild.dashboard.namespaces import NAMESPACE, PROJECT
from fnbuild.dashboard.services import services_of
from fnbuild.deploy.projects import PROJECT_LABEL
from fnbuild.errors import UsageError
from fnbuild.spec import import_rules
from fnbuild.spec.locate import NAMES
from fnbuild.spec.quantities import duration
from fnbuild.spec.reader import failure, from_raw, parse
from fnbuild.spec.types import Function, Raw, to_dict

WAIT = "x-nuclio-wait-function-action"
AUTOFIX = "x-nuclio-autofix-function-configuration"

_HINT = 'a function is {"metadata": {"name": …}, "spec": {…}}'


@dataclass(frozen=True, slots=True)
class Body:
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

    def named(self, name: str) -> Body:
        """The same under another name."""
        metadata = msgspec.structs.replace(self.function.metadata, name=name)
        return replace(self, function=msgspec.structs.replace(self.function, metadata=metadata))


async def function_of(request: Request) -> Body:
    """The function that a request's body describes. Raises `UsageError` and `ConfigError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.endswith("yaml"):
        text = await whole_body(request)
        function, report = await to_thread.run_sync(
            parse, text.decode("utf-8", "replace"), NAMES[0]
        )
        if report.errors:
            raise failure(report, NAMES[0])
        # The namespace of a file never counts, as with nuctl.
        return _repaired(request, Body(_identified(request, function, ""), text, yaml=True))
    raw = await json_body(request)
    for key in ("metadata", "spec"):
        if not isinstance(raw.get(key), dict):
            raise UsageError(f"the function has no {key}", hint=_HINT)
    raw.pop("status", None)
    function = await to_thread.run_sync(from_raw, raw, "the function")
    function = _identified(request, function, function.metadata.namespace)
    return _repaired(request, Body(function, msgspec.json.encode(raw), yaml=False))


def _repaired(request: Request, body: Body) -> Body:
    """Repair what Nuclio repairs, if the request asks for it.

    A repaired function no longer is the one in the text, so findings have no places in it.
    """
    if not is_set(request, AUTOFIX):
        return body
    function, repair = import_rules.repaired(body.function)
    if not repair:
        return body
    return Body(function, msgspec.json.encode(to_dict(function)), yaml=False)


def _identified(request: Request, function: Function, written: str) -> Function:
    metadata = function.metadata
    if not metadata.name and (named := request.path_params.get("name")):
        metadata = msgspec.structs.replace(metadata, name=named)
    if project := request.headers.get(PROJECT):
        labels = {**metadata.labels, PROJECT_LABEL: project}
        metadata = msgspec.structs.replace(metadata, labels=labels)
    metadata = msgspec.structs.replace(metadata, namespace=_namespace(request, written))
    return msgspec.structs.replace(function, metadata=metadata)


def _namespace(request: Request, written: str) -> str:
    own = services_of(request).settings.namespace
    return request.headers.get(NAMESPACE) or written or own


@dataclass(frozen=True, slots=True)
class Key:
    """A function that a request names; `version` is the one that it was seen in, "" for any."""

    namespace: str
    name: str
    version: str = ""


async def key_of(request: Request) -> Key:
    """The function that the path names, or the metadata in the body. Raises `UsageError`."""
    named = request.path_params.get("name", "")
    has_body = request.headers.get("content-length", "0") != "0"
    raw = {} if named and not has_body else await json_body(request)
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UsageError("metadata is not an object", hint=_HINT)
    name = named or _text(metadata, "name")
    if not name:
        raise UsageError("the function has no metadata.name", hint=_HINT)
    namespace = _namespace(request, _text(metadata, "namespace"))
    return Key(namespace, name, _text(metadata, "resourceVersion"))


def _text(metadata: Raw, key: str) -> str:
    value: Any = metadata.get(key) or ""
    if not isinstance(value, str):
        raise UsageError(f"metadata.{key} is {value!r}, which is no text")
    return value


def seconds_of(request: Request, header: str, default: float) -> float:
    """A header's Go duration, such as `1m`, in seconds. Raises `UsageError`."""
    text = request.headers.get(header)
    try:
        return default if not text else duration(text)
    except ValueError as error:
        raise UsageError(f"{header}: {error}") from error


def is_set(request: Request, header: str) -> bool:
    """Whether a header of yes or no says yes."""
    return request.headers.get(header, "").lower() in ("1", "t", "true")
