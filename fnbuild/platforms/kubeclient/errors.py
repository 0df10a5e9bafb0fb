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
    ForbiddenError,
    InputError,
    NotFoundError,
    PlatformError,
    PreconditionError,
    UnauthorizedError,
    UnavailableError,
)
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.kinds import Kind

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
# Server-side apply also creates objects, which is a permission of its own.
_GRANTED_VERBS = {"patch": "patch,create"}
_MISTYPED = re.compile(r"(\.\S+): (expected \w+)")
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):(.+)")


class StaleError(ConflictError):
    """The object has changed since it was read."""


class GoneError(ConflictError):
    """The server no longer has the requested version of a list."""


class InvalidFieldsError(InputError):
    """An object has invalid fields; `fields` are their paths."""

    def __init__(self, message: str, fields: tuple[str, ...], hint: str | None = None):
        super().__init__(message, hint=hint)
        self.fields = fields


class FieldConflictError(ConflictError):
    """Another field manager owns fields of an apply."""


@dataclass(frozen=True, slots=True)
class RequestSubject:
    """The subject of a request, for error messages. `verb` is RBAC's: get, list, watch, create …"""

    verb: str
    kind: Kind | None = None
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    server: str = ""
    context: str = ""

    @property
    def target(self) -> str:
        """The name of the object or collection, as in `deployment nuclio-boxes`."""
        if self.kind is None:
            return "the API"
        kind_name = self.kind.name.lower() if self.name else self.kind.plural
        return f"{kind_name} {self.name}" if self.name else kind_name

    @property
    def cluster_name(self) -> str:
        """The name of the cluster in messages."""
        return f"{self.server} (context {self.context})" if self.context else self.server


def namespace_not_found_error(name: str, subject: RequestSubject) -> NotFoundError:
    return NotFoundError(
        f'there is no namespace "{name}" in the cluster at {subject.cluster_name}',
        hint=f"`kubectl create namespace {name}`, or choose another one with `-n`",
    )


def parse_error_status(body: bytes) -> Raw:
    """Return the Status in a response body, or an empty mapping if there is none."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}


@dataclass(frozen=True, slots=True)
class _ErrorResponse:
    """A response other than 2xx: its Status (empty if it has none) and its message."""

    code: int
    status: Raw
    text: str
    subject: RequestSubject

    @property
    def details(self) -> Raw:
        return self.status.get("details") or {}

    @property
    def target(self) -> str:
        return self.subject.target

    @property
    def attempt(self) -> str:
        return f"{self.subject.verb} {self.subject.target}"

    @property
    def causes(self) -> list[Raw]:
        return [cause for cause in self.details.get("causes") or [] if isinstance(cause, dict)]


def error_of_response(status: int, body: bytes, subject: RequestSubject) -> FnbuildError:
    """Return the error for a response other than 2xx."""
    parsed = parse_error_status(body)
    text = str(parsed.get("message") or "") or _plain_text(body) or f"HTTP status {status}"
    response = _ErrorResponse(status, parsed, text, subject)
    if (specific := _webhook_error(response)) is not None:
        return specific
    translate = _BY_STATUS.get(status)
    if translate is not None:
        return translate(response)
    if status >= 500:
        return _server_error(response)
    return PlatformError(f"the cluster refuses to {response.attempt}: {text}")


def _plain_text(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text[:500]


def _webhook_error(response: _ErrorResponse) -> FnbuildError | None:
    if denied := _WEBHOOK.search(response.text):
        reason = (denied[2] or "").strip()
        return PreconditionError(
            f"the admission webhook {denied[1]} of the cluster refuses {response.target}"
            + (f": {reason}" if reason else ""),
            hint="it is a rule of this cluster; its administrator knows the requirements",
        )
    if dead := _WEBHOOK_FAILED.search(response.text):
        return PlatformError(
            f"the admission webhook {dead[1]} of the cluster does not work: {dead[2].strip()}",
            hint="`kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations`",
        )
    return None


def _bad_request(response: _ErrorResponse) -> FnbuildError:
    return _schema_error(response) or InputError(
        f"the cluster cannot read {response.target}: {response.text}"
    )


def _schema_error(response: _ErrorResponse) -> FnbuildError | None:
    """Translate unknown fields and wrong types: status 400, or 500 from older servers."""
    fields = tuple(dict.fromkeys(_UNDECLARED.findall(response.text)))
    if fields:
        listed = ", ".join(fields)
        return InvalidFieldsError(
            f"this cluster does not support fields of {response.target}: {listed}",
            fields,
            hint="`kubectl explain` shows the supported fields; remove the setting, or correct it",
        )
    wrong = _MISTYPED.findall(response.text)
    if not wrong:
        return None
    # The rest of the message contains the value, which may be a secret.
    reason = "; ".join(f"{field}: {problem}" for field, problem in wrong)
    places = tuple(field for field, _ in wrong)
    return InvalidFieldsError(f"the cluster refuses {response.target}: {reason}", places)


def _unauthorized(response: _ErrorResponse) -> FnbuildError:
    namespace_flag = f" -n {response.subject.namespace}" if response.subject.namespace else ""
    return UnauthorizedError(
        f"the cluster at {response.subject.cluster_name} does not accept this user's credentials",
        hint=f"log in again; `kubectl auth can-i --list{namespace_flag}` shows whether it works",
    )


def _forbidden(response: _ErrorResponse) -> FnbuildError:
    denied = _DENIED.search(response.text)
    if denied is None:
        return _not_admitted(response)
    group, namespace = denied["group"] or "", denied["namespace"] or ""
    resource = f"{denied['resource']}.{group}" if group else denied["resource"]
    if "/" in denied["resource"] and group:
        plural, _, sub = denied["resource"].partition("/")
        resource = f"{plural}.{group}/{sub}"
    role = f"fnbuild-{denied['verb']}-{resource.replace('/', '-')}"
    verbs = _GRANTED_VERBS.get(denied["verb"], denied["verb"])
    scope = f' in namespace "{namespace}"' if namespace else " in all namespaces"
    return ForbiddenError(
        f'user "{denied["user"]}" may not {denied["verb"]} {resource}{scope}',
        grant=grant_command(role, verbs, resource, rbac_subject(denied["user"]), namespace),
    )


def rbac_subject(user: str) -> str:
    """Return the flag of kubectl that binds a role to a user or a service account."""
    account = _ACCOUNT.fullmatch(user)
    return f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user='{user}'"


def grant_command(role: str, verbs: str, resource: str, subject: str, namespace: str) -> str:
    """Return the commands with which an administrator creates a role and binds it.

    It is a cluster role if `namespace` is "".
    """
    kind, namespace_flag = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    return (
        f"an administrator can allow it: `kubectl create {kind} {role}"
        f" --verb={verbs} --resource={resource}{namespace_flag}`, then"
        f" `kubectl create {kind}binding {role} --{kind}={role} {subject}{namespace_flag}`"
    )


def _not_admitted(response: _ErrorResponse) -> FnbuildError:
    """Translate a 403 of admission, which is not about permissions."""
    # The text before it is the object's name.
    reason = response.text.partition(" is forbidden: ")[2] or response.text
    if "exceeded quota" in response.text or "failed quota" in response.text:
        return PreconditionError(
            f"{response.target} does not fit into a quota: {reason}",
            hint=f"`kubectl describe quota -n {response.subject.namespace}` shows what is used",
        )
    if "being terminated" in response.text:
        return PreconditionError(
            f'namespace "{response.subject.namespace}" is being deleted',
            hint="wait until it is gone, or use another one",
        )
    return PreconditionError(f"the cluster does not admit {response.target}: {reason}")


def _not_found(response: _ErrorResponse) -> FnbuildError:
    details, subject = response.details, response.subject
    if details.get("kind") == "namespaces":
        return namespace_not_found_error(str(details.get("name") or subject.namespace), subject)
    if subject.kind is not None and not details.get("name"):
        return NotFoundError(
            f"the cluster at {subject.cluster_name} has no {subject.kind.plural} of"
            f" {subject.kind.api_version}",
            hint=f"`kubectl api-resources --api-group={subject.kind.group}` lists its resources",
        )
    return NotFoundError(f"there is no {response.target} in namespace {subject.namespace}")


def _conflict(response: _ErrorResponse) -> FnbuildError:
    causes = [cause for cause in response.causes if cause.get("reason") == "FieldManagerConflict"]
    if causes:
        matches = [_MANAGER.search(str(cause.get("message", ""))) for cause in causes]
        managers = dict.fromkeys(name[1] for name in matches if name)
        fields = dict.fromkeys(str(cause.get("field", "")) for cause in causes)
        return FieldConflictError(
            f"{response.target} has fields that {' and '.join(managers) or 'another manager'}"
            f" manages: {', '.join(fields)}",
            hint="leave these fields alone, or take them over with `--force-conflicts`",
        )
    if response.status.get("reason") == "AlreadyExists":
        return ConflictError(f"{response.target} exists already")
    return StaleError(
        f"{response.target} was changed by another client at the same time",
        hint="try again",
    )


def _gone(response: _ErrorResponse) -> FnbuildError:
    return GoneError(f"the cluster no longer knows an older state of {response.target}")


def _invalid(response: _ErrorResponse) -> FnbuildError:
    problems = [
        f"{cause['field']}: {cause.get('message', '')}"
        if cause.get("field")
        else cause.get("message", "")
        for cause in response.causes
    ]
    reason = "; ".join(dict.fromkeys(map(str, problems))) or response.text
    fields = tuple(str(cause["field"]) for cause in response.causes if cause.get("field"))
    return InvalidFieldsError(f"the cluster refuses {response.target}: {reason}", fields)


def _too_many_requests(response: _ErrorResponse) -> FnbuildError:
    return UnavailableError(
        f"the cluster at {response.subject.cluster_name} is too busy to {response.attempt}",
        hint="try again in a minute",
    )


def _server_error(response: _ErrorResponse) -> FnbuildError:
    if (specific := _schema_error(response)) is not None:
        return specific
    kind = UnavailableError if response.code in {502, 503, 504} else PlatformError
    return kind(
        f"the cluster at {response.subject.cluster_name} could not {response.attempt}"
        f" (HTTP status {response.code})",
        detail=response.text,
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
