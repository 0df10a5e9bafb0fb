"""Names and labels: how the engine remembers functions, their revisions and projects.

Containers have Nuclio's labels (pkg/platform/local/platform.go), so that its tools and CVAT's users
find them, and fnbuild's own, which hold everything that a later command has to know.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fnbuild.errors import InputError
from fnbuild.platforms import base
from fnbuild.platforms.revision_records import stored_config
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function, Raw

PLATFORM = "nuclio.io/platform"
NAMESPACE = "nuclio.io/namespace"
FUNCTION = "nuclio.io/function-name"
SPEC = "nuclio.io/function-spec"
ANNOTATIONS = "nuclio.io/annotations"

# Of containers and records.
REVISION = "fnbuild.io/revision"
PORT = "fnbuild.io/port"
OWNER = "fnbuild.io/owner"
CANDIDATE = "fnbuild.io/candidate"
_CREATED = "fnbuild.io/created"
_DIGEST = "fnbuild.io/digest"
_IMAGE = "fnbuild.io/image"
_IMAGE_ID = "fnbuild.io/image-id"
_CONFIG = "fnbuild.io/function"
_SOURCE = "fnbuild.io/source-revision"
_NOTE = "fnbuild.io/note"

# Of containers that are there to be read alone: the machine and the process that reads.
READER = "fnbuild.io/reader"

# Of records alone.
LEASE = "fnbuild.io/lease"
RECORD = "fnbuild.io/record"
RECORD_NAMESPACE = "fnbuild.io/namespace"
RECORD_NAME = "fnbuild.io/name"
_FAILURE = "fnbuild.io/failure"
_STATE = "fnbuild.io/state"

_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_LONGEST_TAG = 128
_LONGEST_MESSAGE = 16 << 10


class Key(base.FunctionKey):
    """A function, and the names of its containers, records and images."""

    __slots__ = ()

    @property
    def container(self) -> str:
        return f"nuclio-{self.namespace}-{self.name}"

    @property
    def successor(self) -> str:
        """The name of the next container until it has taken over."""
        return f"{self.container}.fnbuild-next"

    @property
    def candidate(self) -> str:
        """The name of the container that only proves that a revision becomes ready."""
        return f"{self.container}.fnbuild-candidate"

    def record(self, what: int | str) -> str:
        """The name of the volume that records a revision by its number, or an import."""
        return f"fnbuild-{self.namespace}.{self.name}.{what}"

    def image(self, number: int) -> str:
        """The tag that keeps a revision's image from being taken for an unused one."""
        tag = f"{self.namespace}.{self.name}.{number}".lstrip(".-")
        if len(tag) > _LONGEST_TAG:
            tag = f"{hashlib.sha256(str(self).encode()).hexdigest()[:32]}.{number}"
        return f"fnbuild-revisions:{tag}"


def key_of(function: Function) -> Key:
    """Raises `InputError` for a name that no container can have."""
    key = Key(function.metadata.namespace, function.metadata.name)
    for part, word in ((key.namespace, "namespace"), (key.name, "function name")):
        if not _NAME.fullmatch(part):
            raise InputError(
                f"{part!r} cannot be a {word} on Docker",
                hint="letters, digits, '.', '_' and '-' make the name of a container",
            )
    return key


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Made:
    """One revision, as the labels of its container and of its record have it.

    `image` is the reference that was deployed, `image_id` what it meant then. `source` is the
    revision whose code it is, `port` its port of the machine, 0 for none. `failure` says why it
    does not serve; its state is then `state`.
    """

    key: Key
    number: int
    created: str
    digest: str
    image: str
    image_id: str
    config: Raw
    source: int
    port: int = 0
    note: str = ""
    failure: str = ""
    state: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.state)

    @property
    def function(self) -> Function:
        return from_raw(self.config, f"{self.key.name} revision {self.number}")

    def with_failure(self, message: str) -> Made:
        """The revision as it is recorded when it did not become ready."""
        return replace(self, state="error", failure=message[:_LONGEST_MESSAGE])

    def labels(self) -> dict[str, str]:
        """What containers and records have in common."""
        return {
            REVISION: str(self.number),
            _CREATED: self.created,
            _DIGEST: self.digest,
            _IMAGE: self.image,
            _IMAGE_ID: self.image_id,
            _CONFIG: json.dumps(self.config),
            _SOURCE: str(self.source),
            _NOTE: self.note,
            PORT: str(self.port),
        }

    def container_labels(self) -> dict[str, str]:
        metadata = self.function.metadata
        return metadata.labels | nuclio_labels(self.key, self.config) | self.labels()

    def record_labels(self) -> dict[str, str]:
        outcome = {_STATE: self.state, _FAILURE: self.failure} if self.failed else {}
        return record_labels("revision", *self.key) | self.labels() | outcome


def record_labels(kind: str, namespace: str, name: str) -> dict[str, str]:
    return {RECORD: kind, RECORD_NAMESPACE: namespace, RECORD_NAME: name}


def nuclio_labels(key: Key, config: Raw) -> dict[str, str]:
    return {
        PLATFORM: "local",
        NAMESPACE: key.namespace,
        FUNCTION: key.name,
        SPEC: json.dumps(config.get("spec", {})),
        ANNOTATIONS: json.dumps(config.get("metadata", {}).get("annotations", {})),
    }


def made_from(labels: Mapping[str, str]) -> Made | None:
    """What a container or a record says of its revision; None when it is none of fnbuild's."""
    made = number(labels, REVISION)
    if not made:
        return None
    key = Key(
        labels.get(RECORD_NAMESPACE) or labels.get(NAMESPACE, ""),
        labels.get(RECORD_NAME) or labels.get(FUNCTION, ""),
    )
    return Made(
        key=key,
        number=made,
        created=labels.get(_CREATED, ""),
        digest=labels.get(_DIGEST, ""),
        image=labels.get(_IMAGE, ""),
        image_id=labels.get(_IMAGE_ID, ""),
        config=_given(labels, _CONFIG),
        source=number(labels, _SOURCE) or made,
        port=number(labels, PORT),
        note=labels.get(_NOTE, ""),
        failure=labels.get(_FAILURE, ""),
        state=labels.get(_STATE, ""),
    )


def number(labels: Mapping[str, str], label: str) -> int:
    """What a label says, 0 for nothing or for no number: one strange container must not hide the
    others.
    """
    text = labels.get(label, "")
    return int(text) if text.isdecimal() else 0


def imported_labels(function: Function) -> dict[str, str]:
    key = key_of(function)
    return record_labels("imported", *key) | {_CONFIG: json.dumps(stored_config(function))}


def imported_from(labels: Mapping[str, str]) -> Raw:
    return _given(labels, _CONFIG)


def nuclio_function(labels: Mapping[str, str]) -> Function:
    """The function of a container that Nuclio itself has started."""
    own = (PLATFORM, NAMESPACE, FUNCTION, SPEC, ANNOTATIONS)
    config = {
        "metadata": {
            "name": labels.get(FUNCTION, ""),
            "namespace": labels.get(NAMESPACE, ""),
            "labels": {key: value for key, value in labels.items() if key not in own},
            "annotations": _given(labels, ANNOTATIONS),
        },
        "spec": _given(labels, SPEC),
    }
    return from_raw(config, labels.get(FUNCTION, ""))


def _given(labels: Mapping[str, str], label: str) -> Raw:
    """What a label says, or nothing where it is no object."""
    try:
        value = json.loads(labels.get(label, "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
