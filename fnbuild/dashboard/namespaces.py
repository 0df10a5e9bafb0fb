"""Which namespace a request is about, and what can be one."""

from __future__ import annotations

import re

from starlette.requests import Request

from fnbuild.dashboard.endpoints import services_of
from fnbuild.errors import UsageError

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
