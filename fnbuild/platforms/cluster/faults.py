"""What an API server refuses, as errors of fnbuild, each with its remedy.

An answer other than 2xx is a Status (apimachinery, pkg/apis/meta/v1): `reason`, `message`, and
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
from fnbuild.platforms.cluster.kinds import Kind
from fnbuild.spec.types import Raw

_DENIED = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) (?:resource|path) "(?P<resource>[^"]*)"'
    r'(?: in API group "(?P<group>[^"]*)")?'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_WEBHOOK = re.compile(
    r'admission webhook "([^"]+)" denied the request(?::\s*(.*)| without.*)', re.S
)
_WEBHOOK_DEAD = re.compile(r'failed calling webhook "([^"]+)": (.*)', re.S)
_MANAGER = re.compile(r'conflicts? with "([^"]*)"')
_UNDECLARED = re.compile(r"(\.[^\s:]+): field not declared in schema")
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):(.+)")


class ForbiddenError(FnbuildError):
    """The cluster knows the user, who lacks a right."""

    code = "forbidden"
    http_status = 403


class UnauthorizedError(UnavailableError):
    """The cluster does not know the user: credentials are missing, wrong or too old."""

    code = "unauthorized"


class StaleError(ConflictError):
    """The object has changed since it was read."""


class GoneError(ConflictError):
    """The server no longer has the version of a list that was asked for."""


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


def status_of(body: bytes) -> Raw:
    """The Status that an answer holds; empty for an answer of something else."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def translate(status: int, body: bytes, request: Request) -> FnbuildError:
    """The error that an answer other than 2xx means."""
    found = status_of(body)
    text = str(found.get("message") or "") or _plain(body) or f"HTTP status {status}"
    if (known := _webhook(text, request)) is not None:
        return known
    make = _BY_STATUS.get(status)
    if make is not None:
        return make(found, text, request)
    if status >= 500:
        return _of_server(status, text, request)
    return PlatformError(f"the cluster refuses to {request.verb} {request.thing}: {text}")


def _plain(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text[:500]


def _causes(found: Raw) -> list[Raw]:
    details = found.get("details") or {}
    return [cause for cause in details.get("causes") or [] if isinstance(cause, dict)]


def _webhook(text: str, request: Request) -> FnbuildError | None:
    if denied := _WEBHOOK.search(text):
        said = (denied[2] or "").strip()
        return PreconditionError(
            f"the admission webhook {denied[1]} of the cluster refuses {request.thing}"
            + (f": {said}" if said else ""),
            hint="it is a rule of this cluster: whoever runs it knows what it asks for",
        )
    if dead := _WEBHOOK_DEAD.search(text):
        return PlatformError(
            f"the admission webhook {dead[1]} of the cluster does not work: {dead[2].strip()}",
            hint="`kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations`",
        )
    return None


def _bad_request(found: Raw, text: str, request: Request) -> FnbuildError:
    return _unknown_field(text, request) or InputError(
        f"the cluster cannot read {request.thing}: {text}"
    )


def _unknown_field(text: str, request: Request) -> FnbuildError | None:
    fields = _UNDECLARED.findall(text)
    if not fields:
        return None
    listed = ", ".join(dict.fromkeys(fields))
    return InputError(
        f"this cluster does not know what {request.thing} asks for: {listed}",
        hint="`kubectl explain` shows what it knows; leave the setting out, or correct it",
    )


def _unauthorized(found: Raw, text: str, request: Request) -> FnbuildError:
    return UnauthorizedError(
        f"the cluster at {request.where} does not accept this user's credentials",
        hint="log in again; `kubectl auth can-i --list` tells whether it works",
    )


def _forbidden(found: Raw, text: str, request: Request) -> FnbuildError:
    denied = _DENIED.search(text)
    if denied is None:
        return _not_admitted(text, request)
    group, namespace = denied["group"] or "", denied["namespace"] or ""
    resource = f"{denied['resource']}.{group}" if group else denied["resource"]
    if "/" in denied["resource"] and group:
        plural, _, sub = denied["resource"].partition("/")
        resource = f"{plural}.{group}/{sub}"
    place = f' in namespace "{namespace}"' if namespace else " in all namespaces"
    return ForbiddenError(
        f'user "{denied["user"]}" may not {denied["verb"]} {resource}{place}',
        hint=_grant(denied["user"], denied["verb"], resource, namespace),
    )


def _grant(user: str, verb: str, resource: str, namespace: str) -> str:
    """The commands by which an administrator gives one right."""
    role = f"fnbuild-{verb}-{resource.replace('/', '-')}"
    found = _ACCOUNT.fullmatch(user)
    who = f"--serviceaccount={found[1]}:{found[2]}" if found else f"--user='{user}'"
    kind, at = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    return (
        f"an administrator can allow it: `kubectl create {kind} {role} --verb={verb}"
        f" --resource={resource}{at}`, then `kubectl create {kind}binding {role}"
        f" --{kind}={role} {who}{at}`"
    )


def _not_admitted(text: str, request: Request) -> FnbuildError:
    """403 without a lack of rights: admission refuses the object."""
    if "exceeded quota" in text or "failed quota" in text:
        return PreconditionError(
            f"{request.thing} does not fit into a quota: {_tail(text)}",
            hint=f"`kubectl describe quota -n {request.namespace}` shows what is used",
        )
    if "being terminated" in text:
        return PreconditionError(
            f'namespace "{request.namespace}" is being deleted',
            hint="wait until it is gone, or use another one",
        )
    return PreconditionError(f"the cluster does not admit {request.thing}: {_tail(text)}")


def _tail(text: str) -> str:
    """A message without the object's name in front of it."""
    return text.partition(" is forbidden: ")[2] or text


def _not_found(found: Raw, text: str, request: Request) -> FnbuildError:
    details = found.get("details") or {}
    if details.get("kind") == "namespaces":
        name = details.get("name") or request.namespace
        return NotFoundError(
            f'there is no namespace "{name}" in the cluster {request.where}'.rstrip(),
            hint=f"`kubectl create namespace {name}`, or name another one with `-n`",
        )
    if not details.get("name") and request.kind is not None and not request.name:
        return _not_served(request)
    if not found and request.kind is not None:
        return _not_served(request)
    return NotFoundError(f"there is no {request.thing} in namespace {request.namespace}")


def _not_served(request: Request) -> FnbuildError:
    assert request.kind is not None
    return NotFoundError(
        f"the cluster {request.where} has no {request.kind.plural} of {request.kind.api}",
        hint=f"`kubectl api-resources --api-group={request.kind.group}` shows what it has",
    )


def _conflict(found: Raw, text: str, request: Request) -> FnbuildError:
    causes = [one for one in _causes(found) if one.get("reason") == "FieldManagerConflict"]
    if causes:
        names = [_MANAGER.search(str(one.get("message", ""))) for one in causes]
        managers = tuple(dict.fromkeys(name[1] for name in names if name))
        fields = tuple(dict.fromkeys(str(one.get("field", "")) for one in causes))
        return FieldConflictError(
            f"{request.thing} has fields that {' and '.join(managers) or 'another manager'}"
            f" manages: {', '.join(fields)}",
            managers,
            fields,
        )
    if found.get("reason") == "AlreadyExists":
        return ConflictError(f"{request.thing} exists already")
    return StaleError(
        f"{request.thing} was changed by somebody else at the same time", hint="try again"
    )


def _gone(found: Raw, text: str, request: Request) -> FnbuildError:
    return GoneError(f"the cluster has forgotten an older state of {request.thing}: {text}")


def _invalid(found: Raw, text: str, request: Request) -> FnbuildError:
    problems = [
        f"{one['field']}: {one.get('message', '')}" if one.get("field") else one.get("message", "")
        for one in _causes(found)
    ]
    said = "; ".join(dict.fromkeys(map(str, problems))) or text
    return InputError(f"the cluster refuses {request.thing}: {said}")


def _busy(found: Raw, text: str, request: Request) -> FnbuildError:
    return UnavailableError(
        f"the cluster at {request.where} has too much to do to {request.verb} {request.thing}",
        hint="try again in a minute",
    )


def _of_server(status: int, text: str, request: Request) -> FnbuildError:
    if (known := _unknown_field(text, request)) is not None:
        return known
    kind = UnavailableError if status in {502, 503, 504} else PlatformError
    return kind(
        f"the cluster at {request.where} could not {request.verb} {request.thing}"
        f" (HTTP status {status})",
        detail=text,
    )


_BY_STATUS: dict[int, Callable[[Raw, str, Request], FnbuildError]] = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    409: _conflict,
    410: _gone,
    422: _invalid,
    429: _busy,
}
