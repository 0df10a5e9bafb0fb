"""What an address of the API is: its path, who may use it, what answers.

Every module that answers requests offers its own as `ENDPOINTS`. The assembly makes routes of them,
the guard reads who may use them, and the API's description is written from them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

Access = Literal["open", "read", "write"]
"""`open` for everybody; `read` for whoever may look and invoke; `write` for whoever may change."""

BODY_LIMIT = 8 << 20
"""Bytes of a body that is configuration, unless an address says otherwise."""

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. `path` is as Starlette writes it, without a trailing slash.

    `limit` is how many bytes a request's body may have; None leaves that to the handler.

    `summary` is one line for people. `parameters` describes headers and query parameters by name,
    a query parameter with a leading `?`; `takes` and `gives` are JSON Schemas by media type.
    """

    path: str
    methods: tuple[str, ...]
    access: Access
    handler: Handler
    summary: str
    parameters: dict[str, str] = field(default_factory=dict)
    takes: dict[str, Any] = field(default_factory=dict)
    gives: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    limit: int | None = BODY_LIMIT
