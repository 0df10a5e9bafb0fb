"""Which namespace a request is about, and what can be one."""

from __future__ import annotations

import re

from starlette.requests import Request

from fnbuild.dashboard.guard import admit
from fnbuild.dashboard.services import services_of
from fnbuild.errors import UsageError

NAMESPACE = "x-nuclio-function-namespace"
NAME = "x-nuclio-function-name"
PROJECT = "x-nuclio-project-name"

_NAMESPACE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def check_namespace(name: str, place: str) -> None:
    """`UsageError` for what is none: every one that is asked about is looked after for a while."""
    if not _NAMESPACE.fullmatch(name):
        raise UsageError(
            f"{name[:60]!r} cannot be a namespace",
            hint=f"{place} takes letters, digits and '-', 63 at most, as in `nuclio`",
        )


def named_in(request: Request, header: str) -> str:
    """The namespace that the header names, else the dashboard's own."""
    return request.headers.get(header) or services_of(request).settings.namespace


def namespace_of(request: Request) -> str:
    """The namespace that a request is about."""
    return named_in(request, NAMESPACE)


def of_cvat(request: Request) -> bool:
    """Whether CVAT asks. One function that it cannot read takes down its whole list."""
    agent = request.headers.get("user-agent", "")
    return agent.startswith("CVAT/") or "x-nuclio-invoke-via" in request.headers


def is_true(request: Request, flag: str) -> bool:
    """Return True if the query sets the flag."""
    return request.query_params.get(flag, "").lower() == "true"


def with_secrets(request: Request) -> bool:
    """Return True if an export is to include secret values. Raises without the write role."""
    wanted = is_true(request, "with-secrets")
    if wanted:
        admit(request, "write")
    return wanted
