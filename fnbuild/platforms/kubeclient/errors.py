"""Errors of fnbuild for the error responses of a Kubernetes API server, each with a remedy.

A response other than 2xx is a Status (apimachinery, pkg/apis/meta/v1): `reason`, `message`, and
`details` with the object and the causes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from fnbuild.errors import (
    ConflictError,
    FnbuildError,
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnavailableError,
)
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.kinds import Kind


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


class InvalidFieldsError(InputError):
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
class RequestInfo:
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


def namespace_not_found(name: str, request: RequestInfo) -> NotFoundError:
    return NotFoundError(
        f'there is no namespace "{name}" in the cluster at {request.where}',
        hint=f"`kubectl create namespace {name}`, or name another one with `-n`",
    )


_DENIED = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) (?:resource|path) "(?P<resource>[^"]*)"'
    r'(?: in API group "(?P<group>[^"]*)")?'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_WEBHOOK = re.compile(
    r'admission webhook "([^"]+)" denied the request(?::\s*(.*)| without.*)', re.S
)
_WEBHOOK_FAILED = re.compile(r'failed calling webhook "([^"]+)": (.*)', re.S)
_MANAGER = re.compile(r'conflicts? with "([^"]*)"')
_UNDECLARED = re.compile(r"(\.[^\s:]+): field not declared in schema")
# Server-side apply also makes what is not there yet, and that is another right.
_GRANTED_VERBS = {"patch": "patch,create"}
_MISTYPED = re.compile(r"(\.\S+): (expected \w+)")
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):(.+)")


def parse_status(body: bytes) -> Raw:
    """The Status that an answer holds; empty for an answer of something else."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


@dataclass(frozen=True, slots=True)
class _ErrorResponse:
    """An answer other than 2xx: its Status (empty when it holds none) and the message."""

    code: int
    status: Raw
    text: str
    request: RequestInfo

    @property
    def details(self) -> Raw:
        return self.status.get("details") or {}

    @property
    def thing(self) -> str:
        return self.request.thing

    @property
    def doing(self) -> str:
        return f"{self.request.verb} {self.request.thing}"

    @property
    def causes(self) -> list[Raw]:
        return [cause for cause in self.details.get("causes") or [] if isinstance(cause, dict)]


def error_of_response(status: int, body: bytes, request: RequestInfo) -> FnbuildError:
    """The error that an answer other than 2xx means."""
    found = parse_status(body)
    text = str(found.get("message") or "") or _plain_text(body) or f"HTTP status {status}"
    refusal = _ErrorResponse(status, found, text, request)
    if (known := _webhook_error(refusal)) is not None:
        return known
    make = _BY_STATUS.get(status)
    if make is not None:
        return make(refusal)
    if status >= 500:
        return _server_error(refusal)
    return PlatformError(f"the cluster refuses to {refusal.doing}: {text}")


def _plain_text(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text[:500]


def _webhook_error(refusal: _ErrorResponse) -> FnbuildError | None:
    if denied := _WEBHOOK.search(refusal.text):
        said = (denied[2] or "").strip()
        return PreconditionError(
            f"the admission webhook {denied[1]} of the cluster refuses {refusal.thing}"
            + (f": {said}" if said else ""),
            hint="it is a rule of this cluster: whoever runs it knows what it asks for",
        )
    if dead := _WEBHOOK_FAILED.search(refusal.text):
        return PlatformError(
            f"the admission webhook {dead[1]} of the cluster does not work: {dead[2].strip()}",
            hint="`kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations`",
        )
    return None


def _bad_request(refusal: _ErrorResponse) -> FnbuildError:
    return _schema_error(refusal) or InputError(
        f"the cluster cannot read {refusal.thing}: {refusal.text}"
    )


def _schema_error(refusal: _ErrorResponse) -> FnbuildError | None:
    """Fields that are not in the schema, or not of its types: 400 or, of older servers, 500."""
    fields = tuple(dict.fromkeys(_UNDECLARED.findall(refusal.text)))
    if fields:
        listed = ", ".join(fields)
        return InvalidFieldsError(
            f"this cluster does not know what {refusal.thing} asks for: {listed}",
            fields,
            hint="`kubectl explain` shows what it knows; leave the setting out, or correct it",
        )
    wrong = _MISTYPED.findall(refusal.text)
    if not wrong:
        return None
    # Behind that is the value, which may be a secret.
    said = "; ".join(f"{where}: {what}" for where, what in wrong)
    places = tuple(where for where, _ in wrong)
    return InvalidFieldsError(f"the cluster refuses {refusal.thing}: {said}", places)


def _unauthorized(refusal: _ErrorResponse) -> FnbuildError:
    at = f" -n {refusal.request.namespace}" if refusal.request.namespace else ""
    return UnauthorizedError(
        f"the cluster at {refusal.request.where} does not accept this user's credentials",
        hint=f"log in again; `kubectl auth can-i --list{at}` tells whether it works",
    )


def _forbidden(refusal: _ErrorResponse) -> FnbuildError:
    denied = _DENIED.search(refusal.text)
    if denied is None:
        return _not_admitted(refusal)
    group, namespace = denied["group"] or "", denied["namespace"] or ""
    resource = f"{denied['resource']}.{group}" if group else denied["resource"]
    if "/" in denied["resource"] and group:
        plural, _, sub = denied["resource"].partition("/")
        resource = f"{plural}.{group}/{sub}"
    place = f' in namespace "{namespace}"' if namespace else " in all namespaces"
    return ForbiddenError(
        f'user "{denied["user"]}" may not {denied["verb"]} {resource}{place}',
        grant=_grant_command(denied["user"], denied["verb"], resource, namespace),
    )


def _grant_command(user: str, verb: str, resource: str, namespace: str) -> str:
    """The commands by which an administrator gives one right."""
    role = f"fnbuild-{verb}-{resource.replace('/', '-')}"
    found = _ACCOUNT.fullmatch(user)
    who = f"--serviceaccount={found[1]}:{found[2]}" if found else f"--user='{user}'"
    kind, at = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    return (
        f"an administrator can allow it: `kubectl create {kind} {role}"
        f" --verb={_GRANTED_VERBS.get(verb, verb)} --resource={resource}{at}`, then"
        f" `kubectl create {kind}binding {role} --{kind}={role} {who}{at}`"
    )


def _not_admitted(refusal: _ErrorResponse) -> FnbuildError:
    """403 without a lack of rights: admission refuses the object."""
    # In front of that is the object's name.
    said = refusal.text.partition(" is forbidden: ")[2] or refusal.text
    if "exceeded quota" in refusal.text or "failed quota" in refusal.text:
        return PreconditionError(
            f"{refusal.thing} does not fit into a quota: {said}",
            hint=f"`kubectl describe quota -n {refusal.request.namespace}` shows what is used",
        )
    if "being terminated" in refusal.text:
        return PreconditionError(
            f'namespace "{refusal.request.namespace}" is being deleted',
            hint="wait until it is gone, or use another one",
        )
    return PreconditionError(f"the cluster does not admit {refusal.thing}: {said}")


def _not_found(refusal: _ErrorResponse) -> FnbuildError:
    details, request = refusal.details, refusal.request
    if details.get("kind") == "namespaces":
        return namespace_not_found(str(details.get("name") or request.namespace), request)
    if request.kind is not None and not details.get("name"):
        return NotFoundError(
            f"the cluster at {request.where} has no {request.kind.plural} of {request.kind.api}",
            hint=f"`kubectl api-resources --api-group={request.kind.group}` shows what it has",
        )
    return NotFoundError(f"there is no {refusal.thing} in namespace {request.namespace}")


def _conflict(refusal: _ErrorResponse) -> FnbuildError:
    causes = [one for one in refusal.causes if one.get("reason") == "FieldManagerConflict"]
    if causes:
        names = [_MANAGER.search(str(one.get("message", ""))) for one in causes]
        managers = tuple(dict.fromkeys(name[1] for name in names if name))
        fields = tuple(dict.fromkeys(str(one.get("field", "")) for one in causes))
        return FieldConflictError(
            f"{refusal.thing} has fields that {' and '.join(managers) or 'another manager'}"
            f" manages: {', '.join(fields)}",
            managers,
            fields,
        )
    if refusal.status.get("reason") == "AlreadyExists":
        return ConflictError(f"{refusal.thing} exists already")
    return StaleError(
        f"{refusal.thing} was changed by somebody else at the same time", hint="try again"
    )


def _gone(refusal: _ErrorResponse) -> FnbuildError:
    return GoneError(f"the cluster no longer knows an older state of {refusal.thing}")


def _invalid(refusal: _ErrorResponse) -> FnbuildError:
    problems = [
        f"{one['field']}: {one.get('message', '')}" if one.get("field") else one.get("message", "")
        for one in refusal.causes
    ]
    said = "; ".join(dict.fromkeys(map(str, problems))) or refusal.text
    fields = tuple(str(one["field"]) for one in refusal.causes if one.get("field"))
    return InvalidFieldsError(f"the cluster refuses {refusal.thing}: {said}", fields)


def _too_many_requests(refusal: _ErrorResponse) -> FnbuildError:
    return UnavailableError(
        f"the cluster at {refusal.request.where} has too much to do to {refusal.doing}",
        hint="try again in a minute",
    )


def _server_error(refusal: _ErrorResponse) -> FnbuildError:
    if (known := _schema_error(refusal)) is not None:
        return known
    kind = UnavailableError if refusal.code in {502, 503, 504} else PlatformError
    return kind(
        f"the cluster at {refusal.request.where} could not {refusal.doing}"
        f" (HTTP status {refusal.code})",
        detail=refusal.text,
    )


_BY_STATUS: dict[int, Callable[[_ErrorResponse], FnbuildError]] = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    409: _conflict,
    410: _gone,
    422: _invalid,
    429: _too_many_requests,
}
