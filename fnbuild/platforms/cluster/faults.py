"""The errors that the answers of an API server become, and what it was asked."""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    InputError,
    NotFoundError,
    UnavailableError,
)
from fnbuild.platforms.cluster.kinds import Kind


class ForbiddenError(FnbuildError):
    """The user is known, and lacks a right. `grant` says how a cluster's administrator gives it."""

    code = "forbidden"
    http_status = 403

    def __init__(
        self, message: str, *, grant: str = "", hint: str | None = None, detail: str | None = None
    ):
        if grant:
            hint = f"{grant}; `fnbuild doctor rights` lists all that is missing at once"
        super().__init__(message, hint=hint, detail=detail)
        self.grant = grant


class UnauthorizedError(UnavailableError):
    """The cluster does not know the user: credentials are missing, wrong or too old."""

    code = "unauthorized"


class StaleError(ConflictError):
    """The object has changed since it was read."""


class GoneError(ConflictError):
    """The server no longer has the version of a list that was asked for."""


class FieldsError(InputError):
    """An object is not as it has to be; `fields` are the paths of what is wrong in it."""

    def __init__(self, message: str, fields: tuple[str, ...], hint: str | None = None):
        super().__init__(message, hint=hint)
        self.fields = fields


class FieldConflictError(ConflictError):
    """Somebody else manages fields that were to be set.

    `managers` are their names, `fields` the paths such as `.spec.replicas`.
    """

    def __init__(self, message: str, managers: tuple[str, ...], fields: tuple[str, ...]):
        super().__init__(
            message,
            hint="leave these fields to the other side, or take them over with `--force-conflicts`",
        )
        self.managers = managers
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of the server. `verb` is RBAC's: get, list, watch, create, patch, …"""

    verb: str
    kind: Kind | None = None
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    server: str = ""
    context: str = ""

    @property
    def thing(self) -> str:
        """The object in words, as in `deployment nuclio-boxes`."""
        if self.kind is None:
            return "the API"
        words = self.kind.name.lower() if self.name else self.kind.plural
        return f"{words} {self.name}" if self.name else words

    @property
    def where(self) -> str:
        """How messages name the cluster."""
        return f"{self.server} (context {self.context})" if self.context else self.server


def no_namespace(name: str, request: Request) -> NotFoundError:
    return NotFoundError(
        f'there is no namespace "{name}" in the cluster at {request.where}',
        hint=f"`kubectl create namespace {name}`, or name another one with `-n`",
    )
