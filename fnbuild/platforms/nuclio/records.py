"""A function as Nuclio keeps it: Nuclio's fields, and what fnbuild writes beside them.

The form is that of the dashboard's API and of the NuclioFunction resource: metadata, spec, status
(pkg/functionconfig/types.go). fnbuild's own facts are annotations, which Nuclio carries along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fnbuild.errors import PreconditionError
from fnbuild.platforms.base import FunctionKey
from fnbuild.spec.function_rules import RESERVED_NAMES
from fnbuild.spec.types import Function, Raw

PROJECT = "nuclio.io/project-name"
SKIP = ("skip-build", "skip-deploy", "nuclio.io/previous-state")

PROCESSOR_VARIABLE = "FNBUILD_PROCESSOR"
"""The environment variable with the processor's settings.

Nuclio lays its own configuration over the folder where an image has them, on every platform.
"""

WAITING = "waitingForResourceConfiguration"
PROVISIONED = frozenset({"ready", "error", "unhealthy", "scaledToZero", "imported"})
"""The states in which nothing is under way (pkg/functionconfig/types.go)."""

_OF_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"
_OWN = "fnbuild.io/"
_REVISION = f"{_OWN}revision"
_CREATED = f"{_OWN}created"
_DIGEST = f"{_OWN}digest"
_IMAGE = f"{_OWN}image"
_PINNED = f"{_OWN}pinned"
_FIELDS = f"{_OWN}fields"


def key_of(function: Function) -> FunctionKey:
    """Raises `PreconditionError` for the names of Nuclio's own parts."""
    name = function.metadata.name
    if name in RESERVED_NAMES:
        raise PreconditionError(
            f"{name!r} is the name of a part of Nuclio", hint="give the function another name"
        )
    return FunctionKey(function.metadata.namespace, name)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Facts:
    """What fnbuild wrote down when it deployed a function; `number` is 0 for one of others.

    `image` is the name that people know, `pinned` an exact reference of it or "". `fields` are the
    keys that were given, each with those below it: what is gone from them was taken away.
    """

    number: int = 0
    created: str = ""
    digest: str = ""
    image: str = ""
    pinned: str = ""
    fields: Raw | None = None

    def annotations(self) -> dict[str, str]:
        given = {
            _REVISION: str(self.number),
            _CREATED: self.created,
            _DIGEST: self.digest,
            _IMAGE: self.image,
            _PINNED: self.pinned,
            _FIELDS: json.dumps(self.fields, separators=(",", ":"), sort_keys=True),
        }
        return {name: text for name, text in given.items() if text}


def facts_of(stored: Raw) -> Facts:
    annotations = metadata_of(stored).get("annotations") or {}
    number = str(annotations.get(_REVISION, ""))
    if not number.isdecimal():
        return Facts(image=str((stored.get("spec") or {}).get("image") or ""))
    return Facts(
        number=int(number),
        created=annotations.get(_CREATED, ""),
        digest=annotations.get(_DIGEST, ""),
        image=annotations.get(_IMAGE, ""),
        pinned=annotations.get(_PINNED, ""),
        fields=_object(annotations.get(_FIELDS, "")),
    )


def metadata_of(stored: Raw) -> Raw:
    metadata: Raw = stored.get("metadata") or {}
    return metadata


def status_of(stored: Raw) -> Raw:
    status: Raw = stored.get("status") or {}
    return status


def state_of(stored: Raw) -> str:
    """Nuclio's own word; "" counts as being provisioned."""
    return str(status_of(stored).get("state") or "")


def project_of(stored: Raw) -> str:
    labels = metadata_of(stored).get("labels") or {}
    return str(labels.get(PROJECT) or "default")


def without_own(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that are not fnbuild's own, nor kubectl's copy of the whole with secrets."""
    return {
        name: text
        for name, text in annotations.items()
        if not name.startswith(_OWN) and name != _OF_KUBECTL
    }


def registry_of(image: str) -> str:
    """The registry in an image's reference, "" when it names none."""
    first, slash, _ = image.partition("/")
    named = first == "localhost" or "." in first or ":" in first
    return first if slash and named else ""


def _object(text: str) -> Raw | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
