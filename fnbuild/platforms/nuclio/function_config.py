"""The configuration of a function as Nuclio stores it: read, compared and written.

It has the form of the dashboard's API and of the NuclioFunction resource: metadata, spec and status
(pkg/functionconfig/types.go). The revision record of fnbuild is in annotations, which Nuclio keeps.
Nuclio fills in defaults, so a comparison leaves out the fields that no deploy has set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fnbuild.builder.image.references import explicit_registry
from fnbuild.builder.processor_settings import processor_settings
from fnbuild.errors import PreconditionError
from fnbuild.function.access_settings import authentication_mode, with_authentication
from fnbuild.function.function_rules import RESERVED_NAMES
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.names import PROJECT_LABEL
from fnbuild.platforms import Artifact
from fnbuild.platforms.base import FunctionKey
from fnbuild.platforms.revision_records import SKIP_ANNOTATIONS, timestamp

PROCESSOR_VARIABLE = "FNBUILD_PROCESSOR"
"""The environment variable with the processor's settings.

Nuclio mounts its own configuration over the folder in which an image has them.
"""

WAITING_STATE = "waitingForResourceConfiguration"
SETTLED_STATES = frozenset({"ready", "error", "unhealthy", "scaledToZero", "imported"})
"""States in which no deploy is in progress (pkg/functionconfig/types.go)."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PREFIX = "fnbuild.io/"

# The revision has the image, and Nuclio or its dashboard sets the other fields.
_IGNORED_SPEC_FIELDS = ("image", "imageHash", "runRegistry", "imagePullPolicy", "version", "alias")
_IGNORED_BUILD_FIELDS = (
    "path", "functionSourceCode", "image", "mode", "codeEntryType", "registry", "timestamp",
    "noBaseImagesPull", "offline", "noCache", "noCleanup", "tempDir", "functionConfigPath",
)  # fmt: skip
# Nuclio replaces masked values by references (pkg/functionconfig/scrubber.go).
_MASK_PREFIX = "$ref:"
# Kubernetes writes 1000m as 1.
_QUANTITY_FIELD = "resources"

# Nuclio builds a function that has one of these, except in mode neverBuild.
_BUILD_SOURCE_FIELDS = ("path", "functionSourceCode", "image")
_NEVER_BUILD_MODE = "neverBuild"
FILLED_IN_FIELDS = ("runRegistry", "imagePullPolicy")
"""Fields that a deploy sets if function.yaml does not."""

# Requests still arrive after a pod was told to terminate, and it has 30 s to do so.
_LINGER_SECONDS = 5
_DRAIN_SECONDS = 20


def validated_key(function: Function) -> FunctionKey:
    """Return the key. Raises `PreconditionError` if the name is reserved for Nuclio itself."""
    name = function.metadata.name
    if name in RESERVED_NAMES:
        raise PreconditionError(
            f"{name!r} is the name of a part of Nuclio", hint="rename the function"
        )
    return FunctionKey.of(function)


@dataclass(frozen=True, slots=True)
class DeployRecord:
    """The last deploy by fnbuild, stored in annotations; `number` is 0 if there was none.

    `image` is the reference as the user wrote it, `pinned` its exact reference or "". `fields` is
    the tree of keys that the deploy has set: a key that is missing from the next deploy is removed.
    """

    number: int = 0
    created: str = ""
    digest: str = ""
    image: str = ""
    pinned: str = ""
    fields: Raw | None = None

    def annotations(self) -> dict[str, str]:
        annotations = {
            "revision": str(self.number),
            "created": self.created,
            "digest": self.digest,
            "image": self.image,
            "pinned": self.pinned,
            "fields": json.dumps(self.fields, separators=(",", ":"), sort_keys=True),
        }
        return {f"{_PREFIX}{name}": text for name, text in annotations.items() if text}


def decode_deploy_record(stored: Raw) -> DeployRecord:
    annotations = metadata_of(stored).get("annotations") or {}
    number = str(annotations.get(f"{_PREFIX}revision", ""))
    if not number.isdecimal():
        return DeployRecord(image=str((stored.get("spec") or {}).get("image") or ""))
    texts = {
        name: annotations.get(f"{_PREFIX}{name}", "")
        for name in ("created", "digest", "image", "pinned")
    }
    fields = _parse_object(annotations.get(f"{_PREFIX}fields", ""))
    return DeployRecord(int(number), **texts, fields=fields)


def metadata_of(stored: Raw) -> Raw:
    metadata: Raw = stored.get("metadata") or {}
    return metadata


def status_of(stored: Raw) -> Raw:
    status: Raw = stored.get("status") or {}
    return status


def nuclio_state_of(stored: Raw) -> str:
    """Return Nuclio's state; "" counts as being provisioned."""
    return str(status_of(stored).get("state") or "")


def project_of(stored: Raw) -> str:
    labels = metadata_of(stored).get("labels") or {}
    return str(labels.get(PROJECT_LABEL) or "default")


def user_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations without fnbuild's and without kubectl's copy of the object."""
    return {
        name: text
        for name, text in annotations.items()
        if not name.startswith(_PREFIX) and name != _LAST_APPLIED
    }


def _parse_object(text: str) -> Raw | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def comparable_fields(raw: Raw) -> Raw:
    """Return the fields of a function that are compared, with its variables by name."""
    metadata, spec = metadata_of(raw), dict(raw.get("spec") or {})
    for name in _IGNORED_SPEC_FIELDS:
        spec.pop(name, None)
    # Other clients may have written values of any type.
    build, env = _as_mapping(spec.pop("build", None)), spec.pop("env", None)
    build = {name: value for name, value in build.items() if name not in _IGNORED_BUILD_FIELDS}
    triggers = _as_mapping(spec.pop("triggers", None))
    entries = [entry for entry in env if isinstance(entry, dict)] if isinstance(env, list) else []
    variables = {str(entry.get("name")): _variable_value(entry) for entry in entries}
    variables.pop(PROCESSOR_VARIABLE, None)
    if build:
        spec["build"] = build
    if triggers:
        spec["triggers"] = {name: _as_mapping(trigger) for name, trigger in triggers.items()}
    if variables:
        spec["env"] = variables
    return {
        "metadata": {
            "labels": metadata.get("labels") or {},
            "annotations": user_annotations(metadata.get("annotations") or {}),
        },
        "spec": spec,
    }


def _as_mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}


def _variable_value(entry: Raw) -> Any:
    """Return the value of an environment variable, or its `valueFrom`."""
    rest = {key: value for key, value in entry.items() if key != "name"}
    return rest.get("value", "") if set(rest) <= {"value"} else rest


def key_tree(values: Any) -> Any:
    """Return the nested keys of a mapping; 1 stands for any other value."""
    if not isinstance(values, dict):
        return 1
    return {key: key_tree(value) for key, value in values.items()}


def select_fields(stored: Any, after: Any, fields: Any, section: str = "") -> Any:
    """Return the stored fields that the new configuration or the last deploy (`fields`) sets.

    If `fields` is None, the last deploy was not fnbuild's, and all stored fields are returned. A
    stored value that is equivalent to the new one is returned in the form of the new one.
    """
    if not isinstance(stored, dict):
        return _comparable_leaf(stored, after, section)
    wanted = after if isinstance(after, dict) else {}
    recorded = fields if isinstance(fields, dict) else {}
    # The keys have the order of the new configuration, so that order makes no difference.
    return {
        key: select_fields(
            stored[key],
            wanted.get(key),
            None if fields is None else recorded.get(key, {}),
            section if section == _QUANTITY_FIELD else key,
        )
        for key in dict.fromkeys([*wanted, *stored])
        if key in stored and (fields is None or key in wanted or key in recorded)
    }


def _comparable_leaf(stored: Any, after: Any, section: str) -> Any:
    if not isinstance(stored, str) or not isinstance(after, str):
        return stored
    is_equal = section == _QUANTITY_FIELD and _same_quantity(stored, after)
    return after if is_equal or stored.startswith(_MASK_PREFIX) else stored


def _same_quantity(first: str, second: str) -> bool:
    try:
        return bool(parse_quantity(first) == parse_quantity(second))
    except ValueError:
        return False


def deploy_config(function: Function, artifact: Artifact, number: int) -> Raw:
    """Return the configuration for a deploy, which `with_prebuilt_image` completes.

    The annotations with which an export prevents a deploy are left out, as by nuctl. The image is
    the exact reference if there is one, and its registry is set as runRegistry: the dashboard
    prefixes the image with its own registry if that is empty (pkg/dashboard/resource).
    """
    raw = user_config(function)
    spec = raw.setdefault("spec", {})
    fields = key_tree(comparable_fields(raw))
    fields["spec"].update({name: 1 for name in FILLED_IN_FIELDS if spec.get(name)})
    image = artifact.pinned or artifact.reference
    spec["image"], registry = _split_registry(image, function.spec.run_registry)
    if registry:
        spec["runRegistry"] = registry
    if artifact.pinned:
        spec.setdefault("imagePullPolicy", "IfNotPresent")
    spec["env"] = [*spec.get("env", []), _processor_variable(function)]
    record = DeployRecord(
        number, timestamp(), artifact.digest, artifact.reference, artifact.pinned, fields
    )
    metadata = raw.setdefault("metadata", {})
    annotations = {
        name: text
        for name, text in metadata.get("annotations", {}).items()
        if name not in SKIP_ANNOTATIONS
    }
    metadata["annotations"] = annotations | record.annotations()
    return raw


def user_config(function: Function) -> Raw:
    """Return the configuration without its status and version. It includes secrets."""
    raw = {key: value for key, value in to_dict(function).items() if key != "status"}
    raw.get("metadata", {}).pop("resourceVersion", None)
    return raw


def with_prebuilt_image(raw: Raw, *, exists: bool) -> Raw:
    """Return the configuration in a form for which the dashboard builds no image.

    An existing function keeps its code fields and gets mode neverBuild. Nuclio rejects that mode
    for a new function (pkg/platform/abstract/platform.go, HandleDeployFunction), so its code fields
    are removed.
    """
    spec = dict(raw.get("spec") or {})
    build = dict(spec.get("build") or {})
    if exists:
        build["mode"] = _NEVER_BUILD_MODE
    else:
        build = {
            key: value for key, value in build.items() if key not in (*_BUILD_SOURCE_FIELDS, "mode")
        }
        build["codeEntryType"] = "image"
    return {**raw, "spec": {**spec, "build": build}}


def import_config(function: Function) -> Raw:
    """Return the configuration of an imported function, which is not deployed."""
    raw = user_config(function)
    metadata = raw.setdefault("metadata", {})
    metadata["annotations"] = {
        **user_annotations(metadata.get("annotations", {})),
        "skip-build": "true",
        "skip-deploy": "true",
    }
    return raw


def _split_registry(image: str, registry: str) -> tuple[str, str]:
    """Return the reference that the nodes pull, and its registry."""
    registry = registry.rstrip("/")
    pushed_to = explicit_registry(image)
    if not registry or image.startswith(f"{registry}/"):
        return image, registry or pushed_to
    rest = image.removeprefix(f"{pushed_to}/") if pushed_to else image
    return f"{registry}/{rest}", registry


def _processor_variable(function: Function) -> Raw:
    """Return the environment variable with the processor's settings.

    Nuclio passes variables to Docker in single quotes without escaping them, so a single quote in
    the JSON text is written as an escape sequence.
    """
    if authentication_mode(function) != "none":
        # Nuclio's own proxy asks for the credentials.
        function = with_authentication(function, "none", {})
    values = {
        **processor_settings(function),
        "accept": "ready-or-end",  # Nuclio waits for one of the two
        "linger": _LINGER_SECONDS,
        "drain_timeout": _DRAIN_SECONDS,
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":")).replace("'", "\\u0027")
    return {"name": PROCESSOR_VARIABLE, "value": text}
