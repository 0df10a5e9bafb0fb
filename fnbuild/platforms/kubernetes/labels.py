"""Names, labels and annotations of a function's objects: their keys, values and validation.

Objects have Nuclio's names and labels (pkg/platform/kube/functionres/lazy.go), so that its tools
and CVAT's users find them, and annotations of fnbuild with everything that a later command needs.
The Deployment describes the applied revision; a ConfigMap holds the older ones as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.types import Function, Raw
from fnbuild.names import FUNCTION_LABEL, PROJECT_LABEL
from fnbuild.platforms import base
from fnbuild.platforms.kubeclient import ownership
from fnbuild.platforms.kubeclient.object_names import validate_name

_MAX_ANNOTATION_BYTES = 256 << 10
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(rf"({_PART})?")
_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_PART}")

CONTAINER = "nuclio"
"""The name of the function's own container."""

OBJECT_PREFIX = "nuclio-"
"""The prefix of the names of a function's objects."""

PULL_SECRET = "registry-credentials"  # noqa: S105 (a name, and Nuclio's)
"""The default pull secret of functions."""

_NEGATIVE_VALUES = ("false", "no", "0", "none", "")

# Labels of every object.
CLASS = "nuclio.io/class"
APP = "nuclio.io/app"
FUNCTION = FUNCTION_LABEL
VERSION = "nuclio.io/function-version"
PROJECT = PROJECT_LABEL
RECOMMENDED_PREFIX = ownership.RECOMMENDED_PREFIX
MANAGED_BY = ownership.MANAGED_BY
MANAGER = ownership.MANAGER
FUNCTIONS_SELECTOR = f"{CLASS}=function"
"""Selects the objects of functions, whichever tool deployed them."""
FNBUILD_SELECTOR = f"{FUNCTIONS_SELECTOR},{MANAGED_BY}={MANAGER}"
"""Selects the objects of functions that fnbuild deployed."""

# Labels of CronJobs and their pods.
COMPONENT = "nuclio.io/component"
CRON_TRIGGER = "nuclio.io/function-cron-trigger-name"
CRON_JOB_POD = "nuclio.io/function-cron-job-pod"

# Labels of temporary pods, which no Service or Deployment of a function selects.
TEMPORARY_POD_OF = "fnbuild.io/temporary-pod-of"
"""The function beside which a pod runs for a check or a trial."""
DOCTOR = "fnbuild.io/doctor"

# The label of records: `imported`, `project`, `revisions`, `secrets`.
RECORD = ownership.RECORD
CHANGING_RECORD = "changing"
"""The value of that label while the function is being changed, so that lists find it."""

# Annotations of the ConfigMap.
NODE_PORT = "fnbuild.io/node-port"
"""Keeps the node port if the Service is removed."""
LEASE = "fnbuild.io/deploying"
"""The lease on the function, as JSON; see `leases`."""

# Annotations of the pods.
PROCESSOR = "fnbuild.io/processor"
STAMP = "nuclio.io/image-hash"

# Annotations of the Deployment. The configuration is not an annotation of the pods, so that changes
# that do not concern them, such as the number of replicas, restart none. Nuclio has it here too.
CONFIG = "nuclio.io/function-config"
REVISION = "fnbuild.io/revision"
OWNER = "fnbuild.io/owner"
PINNED = "fnbuild.io/pinned"
OVERLAP = "fnbuild.io/overlap"
SCALER = "fnbuild.io/scaler"
"""`keda` if KEDA sets the number of pods, down to zero."""
DIGEST = "fnbuild.io/digest"
IMAGE = "fnbuild.io/image"
CREATED = "fnbuild.io/created"
SOURCE_REVISION = "fnbuild.io/source-revision"
NOTE = "fnbuild.io/note"
REVISION_ANNOTATIONS = (REVISION, CREATED, SOURCE_REVISION, NOTE, OWNER, PINNED)
"""The annotations that do not follow from the function: time, owner, exact image …"""


def is_valid_label_value(text: str) -> bool:
    """Return True if a label can have this value."""
    return bool(_VALUE.fullmatch(text))


def _validate_key(key_kind: str, key: str, example: str) -> None:
    if not _KEY.fullmatch(key):
        raise InputError(
            f"metadata.{key_kind}s: {key!r} is no {key_kind}'s key in Kubernetes",
            hint=f"letters, digits, '-', '_' and '.', as in {example!r} or 'example.org/{example}'",
        )


def validate_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        _validate_key("label", key, "team")
        if not _VALUE.fullmatch(value):
            raise InputError(
                f"metadata.labels.{key}: {value!r} is no label's value in Kubernetes",
                hint="up to 63 letters, digits, '-', '_' and '.'; an annotation takes any text",
            )


def validate_annotations(annotations: Mapping[str, str], internal: Collection[str]) -> None:
    """Raise `InputError` for invalid keys and for annotations that are too large in total.

    `internal` are the keys that users do not write.
    """
    for key in annotations:
        _validate_key("annotation", key, "type")
    sizes = {key: len(key.encode()) + len(text.encode()) for key, text in annotations.items()}
    total = sum(sizes.values())
    if total > _MAX_ANNOTATION_BYTES:
        sizes_of_others = {key: size for key, size in sizes.items() if key not in internal}
        largest = max(sizes_of_others, key=lambda key: sizes_of_others[key], default="")
        advice = f"; the largest of metadata.annotations is {largest!r}" if largest else ""
        raise InputError(
            f"the configuration takes {total >> 10} KiB as annotations of a pod, and Kubernetes"
            f" takes {_MAX_ANNOTATION_BYTES >> 10}{advice}",
            hint="move long texts into files beside the handler; annotations count twice",
        )


def canonical_json(values: Raw) -> str:
    """Return JSON that does not depend on the order of keys."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_object(text: str) -> Raw:
    """Return the JSON object in a text, or an empty mapping if there is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def section(values: Raw, *names: str) -> Raw:
    """Return a nested mapping of an unchecked configuration; empty if there is none."""
    for name in names:
        value = values.get(name)
        values = value if isinstance(value, dict) else {}
    return values


def parse_int(values: Mapping[str, Any], name: str) -> int:
    """Return an integer value, or 0 for anything else: an invalid object must not hide others."""
    text = str(values.get(name, ""))
    return int(text) if text.isdecimal() else 0


class KubernetesKey(base.FunctionKey):
    """The key of a function, and the names of its objects."""

    __slots__ = ()

    @classmethod
    def of_object(cls, obj: Raw) -> KubernetesKey:
        """Return the key of the function that an object belongs to, by its name."""
        metadata = obj["metadata"]
        return cls(metadata["namespace"], metadata["name"].removeprefix(OBJECT_PREFIX))

    @property
    def object_name(self) -> str:
        """The name of all objects of the function."""
        return f"{OBJECT_PREFIX}{self.name}"

    @property
    def selector(self) -> str:
        """Selects the objects of the function, whichever tool deployed them."""
        return f"{FUNCTIONS_SELECTOR},{FUNCTION}={self.name}"

    @property
    def pod_selector(self) -> dict[str, str]:
        """The labels that select the function's pods. They never change."""
        return {
            CLASS: "function",
            APP: "functionres",
            FUNCTION: self.name,
            VERSION: "latest",
        }


def validated_key(function: Function) -> KubernetesKey:
    """Return the key of a function. Raises `InputError` for names that Kubernetes rejects."""
    key = KubernetesKey.of(function)
    validate_name("namespace", key.namespace)
    validate_name("function name", key.name, key.object_name)
    return key


def means_absent(value: str) -> bool:
    """Return True if a label value means that the node lacks what the label is about."""
    return value.lower() in _NEGATIVE_VALUES
