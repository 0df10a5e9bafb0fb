"""Names and labels of containers and volumes, and the revision record in them.

Containers have Nuclio's labels (pkg/platform/local/platform.go), so that its tools and CVAT's users
find them, and labels of fnbuild with everything that a later command needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import base
from fnbuild.platforms.revision_records import stored_config

PLATFORM_LABEL = "nuclio.io/platform"
NAMESPACE_LABEL = "nuclio.io/namespace"
FUNCTION_LABEL = "nuclio.io/function-name"
SPEC_LABEL = "nuclio.io/function-spec"
ANNOTATIONS_LABEL = "nuclio.io/annotations"

# Labels of containers and records.
REVISION_LABEL = "fnbuild.io/revision"
PORT_LABEL = "fnbuild.io/port"
GRPC_PORT_LABEL = "fnbuild.io/grpc-port"
OWNER_LABEL = "fnbuild.io/owner"
CANDIDATE_LABEL = "fnbuild.io/candidate"
_CREATED_LABEL = "fnbuild.io/created"
_DIGEST_LABEL = "fnbuild.io/digest"
_IMAGE_LABEL = "fnbuild.io/image"
_IMAGE_ID_LABEL = "fnbuild.io/image-id"
_CONFIG_LABEL = "fnbuild.io/function"
_SOURCE_LABEL = "fnbuild.io/source-revision"
_NOTE_LABEL = "fnbuild.io/note"

# The process that extracts code through a container which never starts.
READER_LABEL = "fnbuild.io/reader"

# Labels of records.
LEASE_LABEL = "fnbuild.io/lease"
RECORD_LABEL = "fnbuild.io/record"
RECORD_NAMESPACE_LABEL = "fnbuild.io/namespace"
RECORD_NAME_LABEL = "fnbuild.io/name"
_FAILURE_LABEL = "fnbuild.io/failure"
_STATE_LABEL = "fnbuild.io/state"

_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_MAX_TAG_LENGTH = 128
_MAX_MESSAGE_LENGTH = 16 << 10


class DockerKey(base.FunctionKey):
    """The key of a function, and the names of its containers, records and images."""

    __slots__ = ()

    @property
    def container_name(self) -> str:
        return f"nuclio-{self.namespace}-{self.name}"

    @property
    def successor_name(self) -> str:
        """The name of the new container until it has replaced the old one."""
        return f"{self.container_name}.fnbuild-next"

    @property
    def trial_name(self) -> str:
        """The name of the trial container, which has no port."""
        return f"{self.container_name}.fnbuild-candidate"

    def record_name(self, suffix: int | str) -> str:
        """Return the name of the volume that records a revision by its number, or an import."""
        return f"fnbuild-{self.namespace}.{self.name}.{suffix}"

    def image_reference(self, number: int) -> str:
        """Return the reference that marks the image of a revision as used."""
        tag = f"{self.namespace}.{self.name}.{number}".lstrip(".-")
        if len(tag) > _MAX_TAG_LENGTH:
            tag = f"{hashlib.sha256(str(self).encode()).hexdigest()[:32]}.{number}"
        return f"fnbuild-revisions:{tag}"


def key_of(function: Function) -> DockerKey:
    """Return the key. Raises `InputError` for a name that a container cannot have."""
    key = DockerKey(function.metadata.namespace, function.metadata.name)
    for part, word in ((key.namespace, "namespace"), (key.name, "function name")):
        if not _NAME.fullmatch(part):
            raise InputError(
                f"{part!r} cannot be a {word} on Docker",
                hint="use letters, digits, '.', '_' and '-'",
            )
    return key


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """One revision, as stored in the labels of its container and of its record.

    `image` is the deployed reference, `image_id` the id that it had. `source` is the number of the
    revision with the same code, `port` and `grpc_port` the published ports or 0. A failed revision
    has a `state` and the reason in `failure`.
    """

    key: DockerKey
    number: int
    created: str
    digest: str
    image: str
    image_id: str
    config: Raw
    source: int
    port: int = 0
    grpc_port: int = 0
    note: str = ""
    failure: str = ""
    state: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.state)

    @property
    def function(self) -> Function:
        return function_from_dict(self.config, f"{self.key.name} revision {self.number}")

    def with_failure(self, message: str) -> RevisionRecord:
        """Return the record of a revision that did not become ready."""
        return replace(self, state="error", failure=message[:_MAX_MESSAGE_LENGTH])

    def with_ports(self, port: int, grpc_port: int) -> RevisionRecord:
        """Return the record with the published ports."""
        return replace(self, port=port, grpc_port=grpc_port)

    def labels(self) -> dict[str, str]:
        """Return the labels that containers and records share."""
        grpc_port = {GRPC_PORT_LABEL: str(self.grpc_port)} if self.grpc_port else {}
        return grpc_port | {
            REVISION_LABEL: str(self.number),
            _CREATED_LABEL: self.created,
            _DIGEST_LABEL: self.digest,
            _IMAGE_LABEL: self.image,
            _IMAGE_ID_LABEL: self.image_id,
            _CONFIG_LABEL: json.dumps(self.config),
            _SOURCE_LABEL: str(self.source),
            _NOTE_LABEL: self.note,
            PORT_LABEL: str(self.port),
        }

    def container_labels(self) -> dict[str, str]:
        metadata = self.function.metadata
        return metadata.labels | nuclio_labels(self.key, self.config) | self.labels()

    def record_labels(self) -> dict[str, str]:
        outcome = {_STATE_LABEL: self.state, _FAILURE_LABEL: self.failure} if self.failed else {}
        return record_labels("revision", *self.key) | self.labels() | outcome


def record_labels(kind: str, namespace: str, name: str) -> dict[str, str]:
    return {RECORD_LABEL: kind, RECORD_NAMESPACE_LABEL: namespace, RECORD_NAME_LABEL: name}


def nuclio_labels(key: DockerKey, config: Raw) -> dict[str, str]:
    return {
        PLATFORM_LABEL: "local",
        NAMESPACE_LABEL: key.namespace,
        FUNCTION_LABEL: key.name,
        SPEC_LABEL: json.dumps(config.get("spec", {})),
        ANNOTATIONS_LABEL: json.dumps(config.get("metadata", {}).get("annotations", {})),
    }


def decode_revision(labels: Mapping[str, str]) -> RevisionRecord | None:
    """Decode the revision of a container or a record; None if fnbuild did not create it."""
    revision = int_label(labels, REVISION_LABEL)
    if not revision:
        return None
    key = DockerKey(
        labels.get(RECORD_NAMESPACE_LABEL) or labels.get(NAMESPACE_LABEL, ""),
        labels.get(RECORD_NAME_LABEL) or labels.get(FUNCTION_LABEL, ""),
    )
    return RevisionRecord(
        key=key,
        number=revision,
        created=labels.get(_CREATED_LABEL, ""),
        digest=labels.get(_DIGEST_LABEL, ""),
        image=labels.get(_IMAGE_LABEL, ""),
        image_id=labels.get(_IMAGE_ID_LABEL, ""),
        config=_json_label(labels, _CONFIG_LABEL),
        source=int_label(labels, _SOURCE_LABEL) or revision,
        port=int_label(labels, PORT_LABEL),
        grpc_port=int_label(labels, GRPC_PORT_LABEL),
        note=labels.get(_NOTE_LABEL, ""),
        failure=labels.get(_FAILURE_LABEL, ""),
        state=labels.get(_STATE_LABEL, ""),
    )


def int_label(labels: Mapping[str, str], label: str) -> int:
    """Return the number in a label, 0 if it is missing or invalid.

    Invalid labels of one container must not hide the others.
    """
    text = labels.get(label, "")
    return int(text) if text.isdecimal() else 0


def import_labels(function: Function) -> dict[str, str]:
    key = key_of(function)
    return record_labels("imported", *key) | {_CONFIG_LABEL: json.dumps(stored_config(function))}


def decode_import(labels: Mapping[str, str]) -> Raw:
    return _json_label(labels, _CONFIG_LABEL)


def decode_nuclio_function(labels: Mapping[str, str]) -> Function:
    """Decode the function of a container that Nuclio has started."""
    names = (PLATFORM_LABEL, NAMESPACE_LABEL, FUNCTION_LABEL, SPEC_LABEL, ANNOTATIONS_LABEL)
    config = {
        "metadata": {
            "name": labels.get(FUNCTION_LABEL, ""),
            "namespace": labels.get(NAMESPACE_LABEL, ""),
            "labels": {key: value for key, value in labels.items() if key not in names},
            "annotations": _json_label(labels, ANNOTATIONS_LABEL),
        },
        "spec": _json_label(labels, SPEC_LABEL),
    }
    return function_from_dict(config, labels.get(FUNCTION_LABEL, ""))


def _json_label(labels: Mapping[str, str], label: str) -> Raw:
    """Return the JSON object in a label; an empty one if the label is invalid."""
    try:
        value = json.loads(labels.get(label, "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
